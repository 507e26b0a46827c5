/** The result of one check. A note is for people to weigh; a problem makes the doctor's exit code 1. */
export interface Finding {
  level: 'ok' | 'note' | 'problem'
  text: string
}

/** Prints a finding as soon as it is made, so that a failure leaves those before it visible. */
export type Report = (level: Finding['level'], text: string) => void
