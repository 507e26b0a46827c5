import { setTimeout as sleep } from 'node:timers/promises'
import type { Job, Worker, WorkerOptions } from 'bullmq'
import type { QueueJob } from './consumer.ts'

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

const MAX_JOBS_PER_ROUND = 32
/** Of the jobs' data as it is kept. What is packed in it may be ten times larger. */
const MAX_BYTES_PER_ROUND = 256 * 1024
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
          while (jobs.length > 0) jobs = await this.#rounds(jobs, pass)
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
    async #rounds(jobs: Job[], pass: () => void): Promise<Job[]> {
      for (const { id, token, processedOn } of jobs) this.lockManager.trackJob(id!, token!, processedOn!)
      const rounds = apart(jobs)
      return rounds.length === 1 ? this.#round(jobs, pass) : this.#oneByOne(rounds, pass)
    }

    async #round(jobs: Job[], pass: () => void): Promise<Job[]> {
      const startedAt = performance.now()
      const bytes = bytesOf(jobs)
      const isFull = jobs.length >= MAX_JOBS_PER_ROUND || bytes >= MAX_BYTES_PER_ROUND
      if (isFull) pass()
      const passing = setTimeout(pass, SLOW_ROUND_MS)
      const endings = await this.#process(jobs)
      if (!isFull) await this.#pause(startedAt + this.#options.intervalMs - performance.now())
      clearTimeout(passing)

      // Fetch as many again, or fewer if these were too large for one round.
      const share = Math.min(1, MAX_BYTES_PER_ROUND / bytes)
      const mayFetch = Math.max(1, Math.floor(jobs.length * share))
      const next = await Promise.all(jobs.map((job, index) => this.#end(job, endings[index]!, index < mayFetch)))
      const found = next.filter((job) => job !== undefined)
      if (found.length === mayFetch) await this.#addWaiting(found)
      // They were fetched at the same time over several connections, so they come in any order.
      return found.toSorted((a, b) => (a.id! < b.id! ? -1 : 1))
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
      for (let count = 1; this.closing === undefined && jobs.length + count <= MAX_JOBS_PER_ROUND; count *= 2) {
        const asked = Array.from({ length: count }, () => this.moveToActive(this.#token(), this.opts.name))
        const found = []
        for (const answer of await Promise.allSettled(asked)) {
          if (answer.status === 'rejected') this.#onError(answer.reason)
          else if (answer.value !== undefined) found.push(answer.value)
        }
        jobs.push(...found)
        if (found.length < count || bytesOf(jobs) >= MAX_BYTES_PER_ROUND) return
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

/**
 * Splits `jobs` into rounds. A job whose process died with it in hand may be the cause, so it gets a round of its own, after
 * the others. The order of such jobs is random, so that those behind the one to blame get their turn in some process.
 */
function apart(jobs: readonly Job[]): Job[][] {
  const suspects = jobs.filter(({ stalledCounter }) => stalledCounter > 0)
  const others = jobs.filter(({ stalledCounter }) => stalledCounter === 0)
  const shuffled = suspects.map((job) => ({ job, key: Math.random() })).toSorted((a, b) => a.key - b.key)
  return [others, ...shuffled.map(({ job }) => [job])].filter(({ length }) => length > 0)
}

/** The total length of the texts that the jobs hold; at least 1. */
function bytesOf(jobs: readonly Job[]): number {
  const texts = jobs.flatMap(({ data }) =>
    Object.values((data as object | null) ?? {}).filter((value) => typeof value === 'string'),
  )
  return texts.reduce((sum, { length }) => sum + length, 1)
}
