import { resolveConfig } from '@ringback/core/config'
import { expect, test } from 'vitest'
import { greeting } from './greeting.ts'

test.each([
  ['postgres://ringback:ringback@127.0.0.1:5433/ringback', 'postgres://ringback:ringback@127.0.0.1:5433/ringback'],
  ['postgres://u:hu:sh@db/x?sslmode=require', 'postgres://u@db/x?sslmode=require'],
  ['postgres://u:hush@a:5432,b:5432/x', 'postgres://u@a:5432,b:5432/x'],
  ['postgres://u:ringback@hush@db/x', 'postgres://u@db/x'],
  ['postgres://u@server:hush@db/x', 'postgres://u@server@db/x'],
  ['postgres://u@a:5432,b:5432/x', 'postgres://u@a:5432,b:5432/x'],
  ['postgres://:hush@[::1]/x', 'postgres://@[::1]/x'],
  ['postgres://u:hush@/x?host=/run/postgresql', 'postgres://u@/x?host=/run/postgresql'],
])('the greeting shows %s without a password, unless that is the public one', (databaseUrl, shown) => {
  const config = resolveConfig({ sources: {} }, {})
  expect(greeting({ config, port: 3000, databaseUrl, environment: {} })).toContain(`psql ${shown} -c`)
})
