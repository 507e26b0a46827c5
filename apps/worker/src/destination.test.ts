import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { defaultBreaker } from '@ringback/core/handlers'
import type { Limits } from '@ringback/core/handlers'
import { admit, settle } from './destination.ts'
import type { Destination } from './destination.ts'

const HOUR_MS = 3_600_000
const START = Date.UTC(2026, 0, 1)
const at = (ms: number) => new Date(START + ms)

const fresh: Destination = {
  state: 'closed',
  stateSince: at(0),
  openUntil: null,
  openings: 0,
  windowStartedAt: at(0),
  windowAttempts: 0,
  windowFailures: 0,
  consecutiveFailures: 0,
  tokens: null,
  tokensAt: at(0),
}

const breaker = { failureShare: 0.5, minAttempts: 4, windowMs: 10_000, openMs: 1000 }
const began = (startedAt: Date, ...succeeded: boolean[]) =>
  succeeded.map((ok) => ({ ok, startedAt, isGone: false, isOfEvent: false }))
/** The outcomes of attempts that began in the state in which they ended. */
const outcomes = (...succeeded: boolean[]) => began(at(1e9), ...succeeded)
const gone = [{ ok: false, startedAt: at(1e9), isGone: true, isOfEvent: false }]
const ofEvent = { ok: false, startedAt: at(1e9), isGone: false, isOfEvent: true }
const opened = settle(breaker, fresh, outcomes(false, false, false, false), at(0))
const wanted = { wanted: 10, running: 0 }

describe('whatever comes when', () => {
  const limits = fc.record({
    concurrency: fc.option(fc.integer({ min: 1, max: 20 }), { nil: undefined }),
    perSecond: fc.option(fc.double({ min: 0.01, max: 200, noNaN: true }), { nil: undefined }),
    breaker: fc.constantFrom(false as const, breaker),
  })
  interface Step {
    afterMs: number
    wanted: number
    /** For each attempt that ends now, whether it succeeded. */
    ends: boolean[]
  }
  const steps: fc.Arbitrary<Step[]> = fc.array(
    fc.record({
      afterMs: fc.oneof(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 20_000 })),
      wanted: fc.integer({ min: 1, max: 50 }),
      ends: fc.array(fc.boolean(), { maxLength: 30 }),
    }),
    { maxLength: 60 },
  )

  /** Plays `sequence` and returns every admission with the row and the running attempts before and after it. */
  function play(own: Limits, sequence: Step[]) {
    let destination = fresh
    let now = 0
    let running = 0
    return sequence.map(({ afterMs, wanted: count, ends }) => {
      now += afterMs
      const ended = ends.slice(0, running)
      if (ended.length > 0) destination = settle(own.breaker ?? false, destination, outcomes(...ended), at(now))
      running -= ended.length
      const before = destination
      const admission = admit(own, before, { wanted: count, running, now: at(now) })
      destination = admission.destination
      running += admission.count
      return { now, wanted: count, before, running, ...admission }
    })
  }

  test('never more than the concurrency are under way', () => {
    fc.assert(
      fc.property(limits, steps, (own, sequence) => {
        for (const { running } of play(own, sequence)) expect(running).toBeLessThanOrEqual(own.concurrency ?? Infinity)
      }),
    )
  })

  test('in no window of time begin more than its rate and one burst', () => {
    fc.assert(
      fc.property(limits, steps, (own, sequence) => {
        if (own.perSecond === undefined) return
        const begun = play(own, sequence)
        for (const [index, first] of begun.entries()) {
          let count = 0
          for (const { now, count: more } of begun.slice(index)) {
            count += more
            const bound = Math.max(1, own.perSecond) + ((now - first.now) * own.perSecond) / 1000
            expect(count).toBeLessThanOrEqual(bound + 1e-6)
          }
        }
      }),
    )
  })

  test('nothing begins while the breaker is open, and one at a time while it is half open', () => {
    fc.assert(
      fc.property(limits, steps, (own, sequence) => {
        for (const { before, now, count } of play(own, sequence)) {
          if (before.state === 'closed') continue
          expect(count).toBeLessThanOrEqual(before.openUntil !== null && before.openUntil > at(now) ? 0 : 1)
        }
      }),
    )
  })

  test('what may not begin is told to wait, not without end; what may is never more than was asked for', () => {
    fc.assert(
      fc.property(limits, steps, (own, sequence) => {
        for (const { count, wanted: asked, waitMs } of play(own, sequence)) {
          expect(count).toBeLessThanOrEqual(asked)
          if (count > 0) continue
          expect(waitMs).toBeGreaterThan(0)
          expect(waitMs).toBeLessThanOrEqual(Math.max(1000 / (own.perSecond ?? 1) + 1, breaker.openMs * 16, 60_000))
        }
      }),
    )
  })
})

describe('the rate', () => {
  const limits = { perSecond: 2 }

  test('begins with one second worth of it, and then a delivery each half second', () => {
    const first = admit(limits, fresh, { ...wanted, now: at(0) })
    expect(first.count).toBe(2)
    const second = admit(limits, first.destination, { ...wanted, now: at(100) })
    expect(second).toMatchObject({ count: 0, waitMs: 400 })
    expect(admit(limits, second.destination, { ...wanted, now: at(500) }).count).toBe(1)
  })

  test('under one a second is kept too', () => {
    const rare = { perSecond: 0.1 }
    const first = admit(rare, fresh, { ...wanted, now: at(0) })
    expect(first.count).toBe(1)
    expect(admit(rare, first.destination, { ...wanted, now: at(9999) }).count).toBe(0)
    expect(admit(rare, first.destination, { ...wanted, now: at(10_000) }).count).toBe(1)
  })

  test('makes deliveries wait until there is a token, and not less', () => {
    const { destination } = admit({ perSecond: 3 }, fresh, { ...wanted, now: at(0) })
    expect(admit({ perSecond: 3 }, destination, { ...wanted, now: at(0) })).toMatchObject({ count: 0, waitMs: 334 })
  })

  test('a clock that goes back gives one delivery away, and makes none wait until it is there again', () => {
    const first = admit(limits, fresh, { ...wanted, now: at(HOUR_MS) })
    const second = admit(limits, first.destination, { ...wanted, now: at(0) })
    expect(second.count).toBe(1)
    expect(admit(limits, second.destination, { ...wanted, now: at(499) }).count).toBe(0)
    expect(admit(limits, second.destination, { ...wanted, now: at(500) }).count).toBe(1)
  })
})

test('if more are under way than a lowered limit allows, nothing begins, and the wait is short', () => {
  const admission = admit({ concurrency: 2 }, fresh, { wanted: 10, running: 5, now: at(0) })
  expect(admission).toMatchObject({ count: 0, waitMs: 500 })
})

describe('the breaker', () => {
  test('opens at the share of failures, once there were enough attempts', () => {
    const few = settle(breaker, fresh, outcomes(false, false, false), at(0))
    expect(few.state).toBe('closed')
    const below = settle(breaker, few, outcomes(true, true, true, true), at(1))
    expect(below).toMatchObject({ state: 'closed', windowAttempts: 7, windowFailures: 3 })
    expect(settle(breaker, below, outcomes(false), at(2))).toMatchObject({
      state: 'open',
      openUntil: at(2 + 1000),
      openings: 1,
    })
  })

  test('does not open for failures of events, and makes another trial after one', () => {
    const after = settle(
      breaker,
      fresh,
      Array.from({ length: 9 }, () => ofEvent),
      at(0),
    )
    expect(after).toMatchObject({ state: 'closed', windowAttempts: 0, consecutiveFailures: 9 })
    const { destination } = admit({ breaker }, opened, { ...wanted, now: at(1000) })
    const untold = settle(breaker, destination, [ofEvent], at(1100))
    expect(admit({ breaker }, untold, { ...wanted, now: at(1100) })).toMatchObject({
      count: 1,
      destination: { state: 'half_open' },
    })
  })

  test('forgets what was before its window', () => {
    const before = settle(breaker, fresh, outcomes(false, false, false), at(0))
    const after = settle(breaker, before, outcomes(false), at(10_001))
    expect(after).toMatchObject({ state: 'closed', windowAttempts: 1, windowFailures: 1, windowStartedAt: at(10_001) })
    // The windows follow each other, and do not move on with each attempt.
    const within = settle(breaker, after, outcomes(false), at(15_000))
    expect(within).toMatchObject({ windowAttempts: 2, windowStartedAt: at(10_001) })
    expect(settle(breaker, within, outcomes(false), at(20_002))).toMatchObject({ windowAttempts: 1 })
  })

  test('lets one delivery try when its time is over, and tells the others to wait for it', () => {
    expect(admit({ breaker }, opened, { ...wanted, now: at(999) })).toMatchObject({ count: 0, waitMs: 1 })
    const long = { ...opened, openUntil: at(600_000) }
    expect(admit({ breaker }, long, { ...wanted, now: at(0) })).toMatchObject({ count: 0, waitMs: 600_000 })
    const trial = admit({ breaker }, opened, { ...wanted, now: at(1000) })
    expect(trial).toMatchObject({ count: 1, destination: { state: 'half_open' } })
    expect(admit({ breaker }, trial.destination, { ...wanted, now: at(1001) })).toMatchObject({
      count: 0,
      waitMs: 1000,
    })
  })

  test('makes another trial when one was not heard of again', () => {
    const { destination } = admit({ breaker }, opened, { ...wanted, now: at(1000) })
    expect(admit({ breaker }, destination, { ...wanted, now: at(60_999) })).toMatchObject({ count: 0, waitMs: 1 })
    expect(admit({ breaker }, destination, { ...wanted, now: at(61_000) }).count).toBe(1)
  })

  test('is not half open as long as no trial may begin', () => {
    const limits = { breaker, concurrency: 1 }
    const admission = admit(limits, opened, { wanted: 10, running: 1, now: at(1000) })
    expect(admission).toMatchObject({ count: 0, destination: { state: 'open', openUntil: opened.openUntil } })
  })

  test('of several that end while it is half open heeds the last', () => {
    const { destination } = admit({ breaker }, opened, { ...wanted, now: at(1000) })
    expect(settle(breaker, destination, outcomes(false, true), at(1100)).state).toBe('closed')
    expect(settle(breaker, destination, outcomes(true, false), at(1100)).state).toBe('open')
  })

  test('closes when the trial succeeds, and starts to count anew', () => {
    const { destination } = admit({ breaker }, opened, { ...wanted, now: at(1000) })
    const after = settle(breaker, destination, outcomes(true), at(1100))
    expect(after).toMatchObject({ state: 'closed', openUntil: null, openings: 0, windowAttempts: 0, windowFailures: 0 })
    expect(after.windowStartedAt).toEqual(at(1100))
    expect(admit({ breaker }, after, { ...wanted, now: at(1100) }).count).toBe(10)
  })

  test('stays open twice as long after each trial that fails, up to 16 times', () => {
    let destination = opened
    const openMs: number[] = []
    for (let openings = 0; openings < 7; openings++) {
      const now = destination.openUntil!
      destination = settle(
        breaker,
        admit({ breaker }, destination, { ...wanted, now }).destination,
        outcomes(false),
        now,
      )
      expect(destination.state).toBe('open')
      openMs.push(destination.openUntil!.getTime() - now.getTime())
    }
    expect(openMs).toEqual([2000, 4000, 8000, 16_000, 16_000, 16_000, 16_000])
  })

  test('what was under way when it opened neither prolongs nor ends it', () => {
    const late = settle(breaker, opened, outcomes(true, false), at(500))
    expect(late).toMatchObject({ state: 'open', openUntil: opened.openUntil, openings: 1 })
  })

  test('heeds the trial alone, whatever ends meanwhile that began before it', () => {
    const { destination } = admit({ breaker }, opened, { ...wanted, now: at(1000) })
    const meanwhile = settle(breaker, destination, began(at(999), false, false), at(1100))
    expect(meanwhile).toMatchObject({ state: 'half_open', openUntil: destination.openUntil, openings: 1 })
    expect(settle(breaker, destination, began(at(999), true), at(1100)).state).toBe('half_open')
    const together = [...began(at(1000), true), ...began(at(999), false)]
    for (const ended of [began(at(1000), true), together]) {
      expect(settle(breaker, meanwhile, ended, at(1200))).toMatchObject({ state: 'closed', openings: 0 })
    }
  })

  test('heeds a trial that takes so long that another has begun', () => {
    const { destination: first } = admit({ breaker }, opened, { ...wanted, now: at(1000) })
    const { destination: second } = admit({ breaker }, first, { ...wanted, now: at(61_000) })
    expect(settle(breaker, second, began(at(1000), true), at(62_000)).state).toBe('closed')
  })

  test('is not opened again by what began before it closed', () => {
    const { destination } = admit({ breaker }, opened, { ...wanted, now: at(1000) })
    const after = settle(breaker, destination, began(at(1000), true), at(1100))
    const late = began(at(999), false, false, false, false)
    expect(settle(breaker, after, late, at(1200))).toMatchObject({ state: 'closed', consecutiveFailures: 4 })
  })

  test('opens and closes as before when the clock is set back by an hour', () => {
    const admission = admit({ breaker }, { ...fresh, stateSince: at(HOUR_MS) }, { ...wanted, now: at(0) })
    const failures = began(at(0), false, false, false, false)
    const failing = settle(breaker, admission.destination, failures, at(10))
    expect(failing).toMatchObject({ state: 'open', openUntil: at(1010) })

    const openSince = settle(breaker, fresh, began(at(HOUR_MS), false, false, false, false), at(HOUR_MS))
    const trial = admit({ breaker }, openSince, { ...wanted, now: at(10) })
    expect(trial).toMatchObject({ count: 1, destination: { state: 'half_open', stateSince: at(10) } })
    expect(settle(breaker, trial.destination, began(at(10), true), at(20)).state).toBe('closed')
  })

  test('forgets what was before its window also when the clock is set back by an hour', () => {
    const before = { ...fresh, stateSince: at(0), windowStartedAt: at(HOUR_MS), windowAttempts: 3, windowFailures: 1 }
    const within = settle(breaker, before, began(at(0), true), at(0))
    expect(settle(breaker, within, began(at(1), false), at(10_001))).toMatchObject({
      state: 'closed',
      windowAttempts: 1,
    })
  })

  test('is off where the limits say so', () => {
    const after = settle(false, fresh, outcomes(...Array.from({ length: 100 }, () => false)), at(0))
    expect(after).toMatchObject({ state: 'closed', consecutiveFailures: 100 })
  })

  test('by default opens at half of ten attempts in a minute, for half a minute', () => {
    const half = outcomes(true, false, true, false, true, false, true, false, true, false)
    expect(settle(defaultBreaker, fresh, half, at(0))).toMatchObject({ state: 'open', openUntil: at(30_000) })
  })
})

describe('a destination that is gone', () => {
  test('is not disabled again by what began before an operator enabled it', () => {
    const enabled = { ...fresh, stateSince: at(1000) }
    const late = { ok: false, startedAt: at(999), isGone: true, isOfEvent: false }
    expect(settle(breaker, enabled, [late], at(1100)).state).toBe('closed')
    expect(settle(breaker, enabled, [{ ...late, startedAt: at(1001) }], at(1100)).state).toBe('disabled')
  })

  const disabled = settle(breaker, fresh, gone, at(0))

  test('is disabled, also where the breaker is off', () => {
    expect(disabled.state).toBe('disabled')
    expect(settle(breaker, opened, gone, at(1))).toMatchObject({ openUntil: null })
    // Enabling it makes what waits due, so nothing needs to look again and again until then.
    expect(admit({ breaker }, disabled, { ...wanted, now: at(0) }).waitMs).toBe(3_600_000)
    expect(settle(false, fresh, gone, at(0)).state).toBe('disabled')
  })

  test('stays disabled, however long it takes and whatever ends later', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 1 }), fc.nat(), (succeeded, ms) => {
        const after = settle(breaker, disabled, outcomes(...succeeded), at(ms))
        expect(after.state).toBe('disabled')
        expect(admit({ breaker }, after, { ...wanted, now: at(ms) }).count).toBe(0)
      }),
    )
  })
})

test('failures in a row are counted across groups, and a success ends the row', () => {
  const three = settle(false, settle(false, fresh, outcomes(true, false), at(0)), outcomes(false, false), at(1))
  expect(three.consecutiveFailures).toBe(3)
  expect(settle(false, three, outcomes(true), at(2)).consecutiveFailures).toBe(0)
  expect(settle(false, three, outcomes(true, false), at(2)).consecutiveFailures).toBe(1)
  expect(settle(false, three, outcomes(false, true, false), at(2)).consecutiveFailures).toBe(1)
})
