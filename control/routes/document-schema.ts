/** The configuration document as JSON Schema for the API description, generated from the tables of keys and credentials. */
import { credentialEntries } from '../../shared/config/credentials.ts'
import type { CredentialSpec } from '../../shared/config/credentials.ts'
import { generalKeys, poolKeys } from '../../shared/config/keys.ts'
import type { KeySpec } from '../../shared/config/keys.ts'

interface JsonSchema {
  type?: 'object' | 'string' | 'integer' | 'array'
  description?: string
  default?: string | number
  minimum?: number
  maximum?: number
  maxLength?: number
  pattern?: string
  enum?: string[]
  properties?: Record<string, JsonSchema>
  required?: string[]
  additionalProperties?: JsonSchema | false
  items?: JsonSchema
  minItems?: number
  oneOf?: JsonSchema[]
}

function keySchema(spec: KeySpec): JsonSchema {
  const { help: description } = spec
  switch (spec.type) {
    case 'integer':
      return { type: 'integer', description, default: spec.default, minimum: spec.min, maximum: spec.max }
    case 'duration': {
      const bounds = `from ${spec.min} to ${spec.max}`
      return {
        type: 'string',
        description: `${description}; ${bounds}`,
        default: spec.default,
        pattern: '^\\d+(ms|s|m|h|d)$',
      }
    }
    case 'choice':
      return { type: 'string', description, default: spec.default, enum: [...spec.choices] }
    case 'string':
      return { type: 'string', description, default: spec.default, maxLength: spec.maxLength }
    default:
      return spec satisfies never
  }
}

function section(keys: Record<string, KeySpec>, others: Record<string, JsonSchema> = {}): JsonSchema {
  const properties = Object.fromEntries(Object.entries(keys).map(([key, spec]) => [key, keySchema(spec)]))
  return { type: 'object', properties: { ...properties, ...others }, additionalProperties: false }
}

const name: JsonSchema = { type: 'string' }
const password: JsonSchema = {
  oneOf: [
    { type: 'string', description: 'the password, an md5 hash or a SCRAM-SHA-256 verifier; moved into a secret' },
    { type: 'object', properties: { env: name }, required: ['env'], additionalProperties: false },
    {
      type: 'object',
      properties: { secret: name, version: { type: 'integer', minimum: 1 } },
      required: ['secret'],
      additionalProperties: false,
    },
  ],
}
const credentialTypes: Record<CredentialSpec['type'], JsonSchema> = { secret: password, name, time: { type: 'string' } }

function credentialSchemas(isListed: (spec: CredentialSpec) => boolean): Record<string, JsonSchema> {
  const listed = credentialEntries().filter(([, spec]) => isListed(spec))
  return Object.fromEntries(
    listed.map(([key, { type, help }]) => [key, { ...credentialTypes[type], description: help }]),
  )
}

const credentials = credentialSchemas(() => true)

const servers: JsonSchema = {
  type: 'array',
  minItems: 1,
  items: {
    type: 'object',
    properties: {
      host: name,
      port: { type: 'integer', default: 5432, minimum: 1, maximum: 65535 },
      role: { type: 'string', default: 'primary', enum: ['primary', 'replica'] },
    },
    required: ['host'],
    additionalProperties: false,
  },
}
const users: JsonSchema = { type: 'object', additionalProperties: section(poolKeys, credentials) }
const pool: JsonSchema = {
  ...section(poolKeys, { ...credentials, database: name, servers, users }),
  required: ['servers', 'users'],
}
const consoleUsers: JsonSchema = {
  type: 'object',
  additionalProperties: section({}, { password, auth_type: { type: 'string', enum: ['trust'] } }),
}

export const documentJsonSchema = {
  type: 'object',
  properties: {
    general: section(generalKeys),
    defaults: section(
      poolKeys,
      credentialSchemas(({ inDefaults }) => inDefaults === true),
    ),
    pools: { type: 'object', additionalProperties: pool },
    admin_users: consoleUsers,
    stats_users: consoleUsers,
  },
  required: ['pools'],
  additionalProperties: false,
} satisfies JsonSchema
