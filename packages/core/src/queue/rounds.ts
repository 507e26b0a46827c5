import { setTimeout as sleep } from 'node:timers/promises'
import type { Job, Worker, WorkerOptions } from 'bullmq'
import type { QueueJob } from './consumer.ts'
import { apart, countAfter, hasPlaces, inOrder, isFull } from './round-rules.ts'

// BullMQ's own loop takes one job at a time, with three calls to the server for each. This one is for many small jobs that
// are best processed together: it takes those that wait as one round, and ends them in one go, which also fetches the next
// round. That is two calls for each job, sent together.

export interface RoundOptions {
  /**
   * Returns one promise for each job, in the order of `jobs`, which is that of their ids. A job whose promise rejects with
   * {@link PostponedError} comes again later.
   */
  processRound: (jobs: QueueJob[]) => Promise<void>[]
  /** Least time from the start of a round to the start of the next, in which jobs gather. A full round does not wait. */
  intervalMs: number
}

/** Why a job is to come again after `delayMs`, at most a minute, while others take their turn. It is no failure. */
export class PostponedError extends Error {
  readonly delayMs: number

  constructor(message: string, delayMs: number) {
    super(message)
    this.delayMs = delayMs
  }
}

/** How long a round may take before another may begin beside it: it is waiting for something. */
const SLOW_ROUND_MS = 5000
const RETRY_PAUSE_MS = 1000

/** A BullMQ worker that takes jobs in rounds. `concurrency` is how many rounds may be under way at a time. */
export const inRounds = (Base: typeof Worker) =>
  class extends Base {
    readonly #options: RoundOptions
    readonly #ending = new AbortController()
    #looking = Promise.resolve()
    #tokens = 0

    constructor(name: string, options: RoundOptions, settings: WorkerOptions) {
      super(name, null, settings)
      this.#options = options
      this.once('closing', () => this.#ending.abort())
    }

    override async run(): Promise<void> {
      await this.startStalledCheckTimer()
      this.lockManager.start()
      // BullMQ's close() waits for it.
      this.mainLoopRunning = this.#lanes()
      await this.mainLoopRunning
    }

    async #lanes(): Promise<void> {
      await Promise.all(Array.from({ length: this.concurrency }, () => this.#lane()))
    }

    /** One lane at a time looks for jobs. It passes that on when its round is full or slow. */
    async #lane(): Promise<void> {
      while (this.closing === undefined) {
        const pass = await this.#turnToLook()
        try {
          const first = await this.getNextJob(this.#token())
          let jobs = first === undefined ? [] : [first]
          while (jobs.length > 0) jobs = await this.#workOff(jobs, pass)
        } catch (error) {
          this.#onError(error)
          await this.#pause(RETRY_PAUSE_MS)
        }
        pass()
      }
    }

    async #turnToLook(): Promise<() => void> {
      const before = this.#looking
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#looking = promise
      await before
      return resolve
    }

    /** Processes and ends `jobs`; resolves to those of the next round. */
    async #workOff(jobs: Job[], pass: () => void): Promise<Job[]> {
      for (const { id, token, processedOn } of jobs) this.lockManager.trackJob(id!, token!, processedOn!)
      const rounds = apart(jobs)
      return rounds.length === 1 ? this.#together(jobs, pass) : this.#oneByOne(rounds, pass)
    }

    /** Processes `jobs` as one round. It lets others look for jobs as soon as it is known to be full or slow. */
    async #together(jobs: Job[], pass: () => void): Promise<Job[]> {
      const startedAt = performance.now()
      if (isFull(jobs)) pass()
      const passing = setTimeout(pass, SLOW_ROUND_MS)
      const endings = await this.#process(jobs)
      if (!isFull(jobs)) await this.#pause(startedAt + this.#options.intervalMs - performance.now())
      clearTimeout(passing)
      return this.#endAndFetch(jobs, endings)
    }

    /** Ends `jobs` with calls that also fetch; resolves to those of the next round. */
    async #endAndFetch(jobs: Job[], endings: PromiseSettledResult<void>[]): Promise<Job[]> {
      const count = countAfter(jobs)
      const answers = await Promise.all(jobs.map((job, index) => this.#end(job, endings[index]!, index < count)))
      const fetched = answers.filter((job) => job !== undefined)
      if (fetched.length === count) await this.#addWaiting(fetched)
      // They were fetched at the same time over several connections, so they come in any order.
      return inOrder(fetched)
    }

    /** Ends each round before the next begins, unless ending takes long, as it does on a dead connection. */
    async #oneByOne(rounds: Job[][], pass: () => void): Promise<Job[]> {
      pass()
      const ended: Promise<unknown>[] = []
      for (const jobs of rounds) {
        const endings = await this.#process(jobs)
        ended.push(Promise.all(jobs.map((job, index) => this.#end(job, endings[index]!, false))))
        await Promise.race([ended.at(-1), this.#pause(SLOW_ROUND_MS)])
      }
      await Promise.all(ended)
      return []
    }

    #process(jobs: readonly Job[]): Promise<PromiseSettledResult<void>[]> {
      return Promise.allSettled(
        this.#options.processRound(jobs.map(({ id, data, stalledCounter: stalls }) => ({ id: id!, data, stalls }))),
      )
    }

    /** Ends `job` in the queue. Resolves to another one, if one waits and `mayFetch`. */
    async #end(job: Job, ending: PromiseSettledResult<void>, mayFetch: boolean): Promise<Job | undefined> {
      const token = job.token!
      this.lockManager.untrackJob(job.id!)
      try {
        if (ending.status === 'fulfilled') return await this.handleCompleted(undefined, job, token, () => mayFetch)
        const error = ending.reason as Error
        if (error instanceof PostponedError) await job.moveToDelayed(Date.now() + error.delayMs, token)
        else {
          await job.moveToFailed(error, token)
          this.emit('failed', job, error, 'active')
        }
      } catch (error) {
        // Its lock expires by itself, and then the job comes again.
        this.#onError(error)
      }
      return undefined
    }

    /** Adds waiting jobs to `jobs`, twice as many each time, until fewer come than were asked for or the round is full. */
    async #addWaiting(jobs: Job[]): Promise<void> {
      for (let count = 1; this.closing === undefined && hasPlaces(jobs, count); count *= 2) {
        const asked = Array.from({ length: count }, () => this.moveToActive(this.#token(), this.opts.name))
        const found = []
        for (const answer of await Promise.allSettled(asked)) {
          if (answer.status === 'rejected') this.#onError(answer.reason)
          else if (answer.value !== undefined) found.push(answer.value)
        }
        jobs.push(...found)
        if (found.length < count || isFull(jobs)) return
      }
    }

    /** Waits `ms`, or until the worker is closing. */
    async #pause(ms: number): Promise<void> {
      if (ms > 0) await sleep(ms, undefined, { signal: this.#ending.signal }).catch(() => undefined)
    }

    #token(): string {
      this.#tokens += 1
      return `${this.id}:${this.#tokens}`
    }

    #onError(error: unknown): void {
      if (this.closing === undefined) this.emit('error', error as Error)
    }
  }
