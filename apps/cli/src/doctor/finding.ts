/** One thing that was looked at. A note is for people to weigh; a problem makes the doctor's exit code 1. */
export interface Finding {
  level: 'ok' | 'note' | 'problem'
  text: string
}

/** Takes a finding as soon as it is made: those before a failure are worth as much as those after it. */
export type Report = (level: Finding['level'], text: string) => void
