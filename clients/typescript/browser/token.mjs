/** Tokens as an identity provider would make them. */
import { createHmac } from 'node:crypto'

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token of somebody who is a client, or an operator, for so many seconds. */
export function signToken(secret, { id, role, name }, seconds = 3_600) {
  const exp = Math.floor(Date.now() / 1_000) + seconds
  const claims = { sub: id, role: 'authenticated', aud: 'authenticated', exp, user_metadata: { name } }
  if (role === 'operator') claims.app_metadata = { chat_role: 'operator' }
  const body = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`
}
