import { isObject } from '../is-object.ts'
import { composeCallbackId } from './callback-id.ts'
import { fieldsContent, queryOf } from './message.ts'
import type { Content, Fields, Json, Message } from './message.ts'
import { fromIsoTime } from './proof.ts'
import { assumed, documented, is2xx, unknown } from './provider.ts'
import type { CallbackFound, RejectReason, Sample } from './provider.ts'
import { definePreset } from './source.ts'

// FoneStorm (FracTEL) signs nothing: Basic authentication and a secret URL are all the proof there is. The same callback
// comes as a GET whose URL had its tokens replaced, as a POST of JSON under a form's content type, as a real form (older
// documentation) or as JSON; the bytes tell which. Source: FoneStorm's article on callbacks and its API reference.

/** FoneStorm's name of the callback, which the user adds to the URL: no request says it by itself. */
const CALLBACK_NAME = /^(messages|calls|faxes|accounts)\/[a-z_]{1,32}$/

/** A token that FoneStorm did not know, in the current spelling or the older one. */
const TOKEN = /\(\([^()]*\)\)|\{\{[^{}]*\}\}/

const EMPTY = /^\{\s*\}$/
/** A body that says nothing, be it JSON or not. */
const BLANK = /^\s*(?:\{\s*\}\s*)?$/
/** XML, which would pass for a form with odd names. */
const XML = /^\s*</

const FAX_STATUS = new Set(['SUCCESS', 'FAILED'])
const FAX_FIELDS = ['file', 'pages', 'pages_transmitted']

type Text = Content['text']

/** What the request is about, and which of its fields name it. */
interface Named {
  type: string
  /** Fields that make the name, in order. */
  parts: (string | undefined)[]
  callbackId: string | undefined
  callId?: string | undefined
}

function split(message: Message): CallbackFound[] | RejectReason {
  const content = contentOf(message)
  if (typeof content === 'string') return content
  const { text, raw, payload } = content
  if (EMPTY.test(payload ?? raw.toString('latin1'))) {
    return [{ kind: 'unreadable', reason: 'callback_id_missing', raw }]
  }
  const { type, parts, callbackId, callId } = nameOf(callbackName(message), text)
  // If it were stored, all later callbacks would be repetitions of it.
  if (parts.some((part) => part !== undefined && TOKEN.test(part))) {
    return [{ kind: 'unreadable', reason: 'token_not_replaced', raw }]
  }
  return [{ kind: 'found', callbackId, type, callId, occurredAt: fromIsoTime(text('timestamp')), raw, payload }]
}

function contentOf(message: Message): Content | RejectReason {
  if (message.method === 'GET') return message.content
  if (isInQuery(message)) return fieldsContent(message.query, Buffer.from(queryOf(message.url)))
  const { content, form, json, body } = message
  if (typeof content === 'string') return content
  const isReadable = form.length > 0 ? isForm(form as Fields, body) : holdsObjects((json as Json).value)
  return isReadable ? content : 'unreadable_body'
}

/** FoneStorm's article says that a POST, too, has its data in the query; the body may then hold nothing. */
function isInQuery({ query, body }: Message): boolean {
  return query.some(([field]) => field !== 'callback') && BLANK.test(body.toString())
}

/** Whether the body is a form. Parsed as one, any other text is one field without a value. */
function isForm(form: Fields, body: Buffer): boolean {
  return form.some(([, value]) => value !== '') && !XML.test(body.toString())
}

/** Whether JSON is an object or a list of objects, as records of calls might be. */
function holdsObjects(value: unknown): boolean {
  const values = [value].flat()
  return values.length > 0 && values.every(isObject)
}

function callbackName({ query }: Message): string | undefined {
  const name = query.find(([field]) => field === 'callback')?.[1]
  return name !== undefined && CALLBACK_NAME.test(name) ? name : undefined
}

function nameOf(name: string | undefined, text: Text): Named {
  const family: string = name?.split('/')[0] ?? familyOf(text) ?? ''
  switch (family) {
    case 'messages':
      return nameOfMessage(name, text)
    case 'calls':
      return nameOfCall(name, text)
    case 'faxes':
      return nameOfFax(name, text)
    default:
      return { type: name ?? '', parts: [], callbackId: undefined }
  }
}

/** The family by the fields, if the URL does not name it. Messages of the older documentation have a `uid`, as calls do. */
function familyOf(text: Text): 'messages' | 'calls' | 'faxes' | undefined {
  const has = (...fields: string[]) => fields.some((field) => text(field) !== undefined)
  if (has('message', 'msg') && !has('status', 'direction')) return 'messages'
  if (has('uid')) return FAX_STATUS.has(text('status') ?? '') || has(...FAX_FIELDS) ? 'faxes' : 'calls'
  return has('id', 'message', 'msg') ? 'messages' : undefined
}

function nameOfMessage(name: string | undefined, text: Text): Named {
  const id = text('id') ?? text('uid')
  const endpoint = endpointOf(name)
  return {
    type: name ?? 'messages',
    parts: [id],
    callbackId: endpoint === undefined || id === undefined ? id : composeCallbackId(endpoint, id),
  }
}

/** BEGIN and END have the same uid. Without a status, nothing but the bytes tells one from the other. */
function nameOfCall(name: string | undefined, text: Text): Named {
  const [direction, uid, status] = ['direction', 'uid', 'status'].map((field) => text(field))
  const byDirection = direction === 'INBOUND' ? 'calls/receive_notify' : 'calls/send_notify'
  return {
    type: name ?? (direction === 'INBOUND' || direction === 'OUTBOUND' ? byDirection : 'calls'),
    parts: [direction, uid, status],
    callbackId: uid === undefined || status === undefined ? undefined : composeCallbackId(direction ?? '', uid, status),
    callId: uid,
  }
}

function nameOfFax(name: string | undefined, text: Text): Named {
  const [uid, status, attempts] = ['uid', 'status', 'attempts'].map((field) => text(field))
  return {
    type: name ?? 'faxes',
    parts: [uid, status, attempts],
    callbackId:
      uid === undefined ? undefined : composeCallbackId(endpointOf(name) ?? '', uid, status ?? '', attempts ?? ''),
  }
}

/** `messages/receive` and `messages/receive_notify` both report a message that came in, under one id. */
function endpointOf(name: string | undefined): 'receive' | 'send' | undefined {
  const callback = name?.split('/')[1]
  if (callback?.startsWith('receive')) return 'receive'
  return callback?.startsWith('send') ? 'send' : undefined
}

/** The documentation calls the text `msg` in one place and `message` in another: handlers get `message`. */
function details(_type: string, payload: unknown): unknown {
  if (!isObject(payload) || !Object.hasOwn(payload, 'msg')) return payload
  const { msg, ...rest } = payload
  const message = Object.hasOwn(rest, 'message') ? (rest.message ?? msg) : msg
  return { ...rest, message }
}

const message = { to: '3215550112', from: '3215550111', id: '{{hex:32}}' }
const call = { account_code: '2005550000', from: '3215550111', to: '3215550112', type: 'VOICE', uid: '{{uuid}}' }
const fax = {
  uid: '{{uuid}}',
  account_code: '2005550000',
  from: '3215550111',
  to: '3215550112',
  timestamp: '{{iso}}',
  file: 'https://files.example.test/fax.pdf',
  type: 'FAX',
}
const ended = { status: 'END', disposition: 'ANSWERED', billable_seconds: 42 }
const receivedMessage = { query: { callback: 'messages/receive_notify' } }
const formType = { 'content-type': 'application/x-www-form-urlencoded' }

const samples: Record<string, Sample> = {
  'messages/receive_notify': { ...receivedMessage, json: { ...message, message: 'hello world' } },
  'messages/receive_notify (msg)': { ...receivedMessage, json: { ...message, msg: 'hello world' } },
  'messages/receive_notify (GET)': {
    method: 'GET',
    query: { ...receivedMessage.query, ...message, msg: 'hello world' },
  },
  'messages/receive_notify (POST)': {
    ...receivedMessage,
    headers: formType,
    json: { ...message, message: 'a=b&c=d 50%+1 café' },
  },
  'messages/receive_notify (form)': { ...receivedMessage, form: { ...message, message: 'hello world' } },
  'messages/send_notify': {
    query: { callback: 'messages/send_notify' },
    json: { ...message, message: 'hello world' },
  },
  'calls/receive_notify (BEGIN)': { json: { ...call, direction: 'INBOUND', status: 'BEGIN' } },
  'calls/receive_notify (END)': { json: { ...call, direction: 'INBOUND', ...ended } },
  'calls/send_notify (BEGIN)': { json: { ...call, direction: 'OUTBOUND', status: 'BEGIN' } },
  'calls/send_notify (END)': {
    json: { ...call, direction: 'OUTBOUND', ...ended, disposition: 'FAILED:404', billable_seconds: 0 },
  },
  'faxes/receive_notify': {
    query: { callback: 'faxes/receive_notify' },
    json: { ...fax, status: 'SUCCESS', attempts: 1, pages: 3, pages_transmitted: 3 },
  },
  'faxes/send_notify': {
    query: { callback: 'faxes/send_notify' },
    json: { ...fax, status: 'FAILED', attempts: 3, pages: 3, pages_transmitted: 1 },
  },
}

/**
 * Sources for FoneStorm's callbacks. Add `?callback=<name>` to each URL, with FoneStorm's name of the callback: requests
 * do not say whether a message or a fax was received or sent.
 */
export const fonestorm = definePreset({
  name: 'fonestorm',
  title: 'FoneStorm',
  schemes: {
    callback: {
      facts: {
        title: 'Messages, calls, faxes and call records, by every method (GET, POST, JSON)',
        headers: ['Authorization'],
        signedText: documented('nothing is signed'),
        secret: documented(
          'HTTP Basic authentication by `url_username` and `url_password` (`username` and `password` for call records); a secret last part of the URL works as well',
        ),
        covers: documented('nothing of the content: credentials only prove who sends'),
        callbackId: assumed(
          'messages: `id`, or `uid` (older documentation), with receive or send before it if the URL says which; calls: `direction`, `uid` and `status`, because BEGIN and END share the `uid`; faxes: receive or send, `uid`, `status`, `attempts`; anything else, including call records: the bytes. `id` and `uid` are documented',
        ),
        type: assumed(
          '`callback` in the URL’s query, which you add, such as `messages/receive_notify`; without it, for calls by `direction`, else only `messages`, `calls` or `faxes`',
        ),
        occurredAt: documented(
          'faxes: `timestamp` (older documentation); nothing else has a time, so the time of receipt',
        ),
        account: unknown('`account_code` of calls and faxes stays in the payload'),
        callId: documented('`uid` of calls'),
        timeLimit: unknown(),
        retries: unknown(),
        answer: unknown('not documented; 200 is assumed'),
        traps: [
          'A GET carries only what the URL’s tokens ask for. Include `((id))` or `((uid))` and `((status))`, under these names; otherwise a callback is named by its bytes alone.',
          'What happens to a token that FoneStorm does not know is not documented. If it stays in the URL, `((id))` or `{{id}}` as an id is refused with `token_not_replaced`; elsewhere it is plain text.',
          'Tokens are written `((msg))` today and were `{{msg}}` in older documentation.',
          'One sentence of the documentation says that a POST, too, has its data in the query. If its body is empty or `{}`, the query is read as for a GET.',
          'The method POST sends JSON under the content type of a form; a form parser would split it at every “&”, “=”, “+” and “%”.',
          'The text of a message is `message` in one part of the documentation and `msg` in another. The payload is kept as it came; handlers find `message` in the event’s details.',
          'A number with both `messages/receive` and `messages/receive_notify` is assumed to report a message twice, with one id, which makes one event.',
          'The fields of call records are not documented. Give their URL `?callback=accounts/cdr_notify`, so that they are not mistaken for calls.',
        ],
      },
      methods: ['GET', 'POST'],
      split,
      details,
      delivery: { timeoutMs: 10_000, retryDelaysMs: [], isDelivered: is2xx },
      callEnd: { field: 'status', values: ['END'] },
      samples,
    },
  },
  example: `fonestorm: fonestorm({
  basicAuth: { username: env('FONESTORM_USERNAME'), password: env('FONESTORM_PASSWORD') },
}),`,
  sourceAddresses: unknown(),
  setUp: [
    'Choose a user name without “:” and a long password, put them into the variables that `basicAuth` names, and restart Ringback.',
    'Set the callback (for example `messages/receive_notify`) with type `Callback`, method `JSON`, `url_username`, `url_password` and the URL `https://your.host/callbacks/<source>?callback=messages/receive_notify`. The name after `callback=` is the name of the callback.',
    'If only GET is possible, name the fields as FoneStorm does: `...&to=((to))&from=((from))&message=((message))&id=((id))`; for calls `...&uid=((uid))&direction=((direction))&status=((status))`.',
    'FoneStorm has only one callback for each event. Others that need it must get it from Ringback.',
  ],
  references: [
    'FoneStorm, article “Callbacks / Web Hooks”',
    'developer.fonestorm.com/reference (v2.11 and v2.12)',
    'github.com/FracTEL-LLC/fonestorm-clients, swagger.json',
  ],
})
