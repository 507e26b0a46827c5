import { createHash } from 'node:crypto'
import express from 'express'
import type { Callback } from '../naive/is-genuine.ts'

// The handler in Voximplant's article on callbacks, which stores nothing. As printed, it answers once for each callback and
// fails at the second. Here it answers once, and with 401 if a hash is wrong.

const { VOXIMPLANT_SALT: salt, VOXIMPLANT_ACCOUNT_ID: accountId, VOXIMPLANT_API_KEY: apiKey } = process.env
const secret = `${salt}${accountId}${apiKey}`
const app = express()

app.use(express.json())

app.get('/readyz', (_request, response) => {
  response.sendStatus(200)
})

app.post('/callbacks/voximplant', (request, response) => {
  const { callbacks } = request.body as { callbacks: Callback[] }
  for (const callback of callbacks) {
    const expected = createHash('md5').update(`${secret}${callback.callback_id}`).digest('hex')
    if (expected !== callback.hash) {
      response.sendStatus(401)
      return
    }
    if (callback.type === 'min_balance') console.log('WARNING! The balance is under the threshold!')
  }
  response.sendStatus(200)
})

app.listen(Number(process.env.PORT), '127.0.0.1')
