import { bandwidth } from './bandwidth.ts'
import { bird } from './bird.ts'
import { fonestorm } from './fonestorm.ts'
import { generic } from './generic.ts'
import { infobip } from './infobip.ts'
import { messagebird } from './messagebird.ts'
import { plivo } from './plivo.ts'
import type { Provider } from './provider.ts'
import { signalwire } from './signalwire.ts'
import { sinch } from './sinch.ts'
import { standardWebhooks } from './standard-webhooks.ts'
import { telnyx } from './telnyx.ts'
import { twilio } from './twilio.ts'
import { vobiz } from './vobiz.ts'
import { vonage } from './vonage.ts'
import { voximplant } from './voximplant.ts'

/** Every provider that Ringback knows, in the order of the documentation. */
export const providers: readonly Provider[] = [
  voximplant,
  vobiz,
  fonestorm,
  twilio,
  plivo,
  telnyx,
  vonage,
  signalwire,
  bandwidth,
  sinch,
  infobip,
  bird,
  messagebird,
  standardWebhooks,
  generic,
].map(({ provider }) => provider)
