import type { HandledEvent } from '@ringback/core/handlers'

/** An event as handlers get it. */
export function anEvent(fields: Partial<HandledEvent> = {}): HandledEvent {
  return {
    id: '01890a5d-ac96-774b-bcce-b302099a8057',
    receivedAt: new Date('2026-11-22T05:00:01Z'),
    source: 'voximplant',
    accountId: '1',
    callbackId: '42',
    type: 'sms_inbound',
    callId: null,
    verifiedBy: 'id',
    occurredAt: new Date('2026-11-22T05:00:00Z'),
    payload: { text: 'call me at +15550100' },
    details: undefined,
    ...fields,
  }
}
