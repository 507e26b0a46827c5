import type { Config } from '@ringback/core/config'
import type { Source } from '@ringback/core/providers/provider'

/** What the doctor examines. */
export interface Examination {
  /** The source's name. */
  name: string
  source: Source
  config: Config
  /** Where the provider's URLs begin. */
  baseUrl: string
  report: Report
}

/** The result of one check. A note is for people to weigh; a problem makes the doctor's exit code 1. */
export interface Finding {
  level: 'ok' | 'note' | 'problem'
  text: string
}

/** Adds a finding. */
export type Report = (level: Finding['level'], text: string) => void
