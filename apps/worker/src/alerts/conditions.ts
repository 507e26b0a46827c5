import type { AlertKind } from '@ringback/core/alerts'
import type { Look, LookDependencies } from './look.ts'
import { lookForDeadLetters, lookForFailures, lookForState, watchedHandlers } from './look-at-destinations.ts'
import { lookForCanaries, lookForSpools } from './look-at-ingests.ts'
import { lookForLag, lookForLosses } from './look-at-queue.ts'
import { lookForQuarantined, lookForRefusals } from './look-at-sources.ts'
import { lookForSilence } from './look-for-silence.ts'
import type { OpenAlert } from './transitions.ts'
import { watchCalls } from './watch-calls.ts'

/** The look for each kind of alert. The caller makes sure that one that fails stops no other. */
export const looks: Record<AlertKind, Look> = {
  destination_failing: lookForFailures,
  destination_open: (deps) => lookForState(deps, 'destination_open'),
  destination_disabled: (deps) => lookForState(deps, 'destination_disabled'),
  dead_letters: lookForDeadLetters,
  source_refusing: lookForRefusals,
  source_quiet: lookForSilence,
  store_lagging: lookForLag,
  quarantine_filling: lookForQuarantined,
  calls_unended: watchCalls,
  canary_late: lookForCanaries,
  spool_in_use: lookForSpools,
  queue_data_lost: lookForLosses,
}

/** Whether an alert is of a kind and subject that a worker with this configuration looks for. */
export function isWatched({ kind, subject }: OpenAlert, config: LookDependencies['config']): boolean {
  if (!Object.hasOwn(looks, kind) || config.alerts.disabled.includes(kind)) return false
  switch (kind) {
    case 'destination_failing':
    case 'destination_open':
    case 'destination_disabled':
      return watchedHandlers(config).includes(subject)
    case 'source_refusing':
    case 'source_quiet':
    case 'quarantine_filling':
      return config.sources.has(subject)
    case 'calls_unended':
      return config.sources.has(subject) && config.alerts.unendedCallMinutes > 0
    case 'dead_letters':
    case 'store_lagging':
    case 'canary_late':
    case 'spool_in_use':
    case 'queue_data_lost':
      return true
  }
}
