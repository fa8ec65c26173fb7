import { describe, expect, test } from 'vitest'
import { firstMatch, parseHba } from '../../../shared/config/hba.ts'
import type { Arrival } from '../../../shared/config/hba.ts'
import { mayBe, parseIdent } from '../../../shared/config/ident.ts'
import { parseIp } from '../../../shared/config/network.ts'

interface Visit extends Partial<Omit<Arrival, 'address'>> {
  /** "" comes by a Unix socket. */
  readonly from?: string
}

/** The method of the first rule that matches, "-" where none does. */
function methodFor(text: string, { from = '10.1.2.3', ...more }: Visit): string {
  const { rules, faults } = parseHba(text)
  expect(faults).toEqual([])
  const arrival = { database: 'app', user: 'web', address: parseIp(from) ?? null, tls: false, replication: false }
  return firstMatch(rules, { ...arrival, ...more })?.method ?? '-'
}

describe('a connection matches by', () => {
  test.for<[name: string, rule: string, matching: Visit[], others: Visit[]]>([
    ['local, a Unix socket', 'local all all trust', [{ from: '' }, { from: '', tls: true }], [{}, { tls: true }]],
    ['host, with and without TLS', 'host all all all trust', [{}, { tls: true }, { from: '::1' }], [{ from: '' }]],
    ['hostssl, with TLS', 'hostssl all all all trust', [{ tls: true }], [{}, { from: '' }]],
    ['hostnossl, without TLS', 'hostnossl all all all trust', [{}], [{ tls: true }, { from: '' }]],
    ['the database', 'host app all all trust', [{}], [{ database: 'App' }, { database: 'ap' }]],
    ['a list of databases', 'host a,"b c", d all all trust', ['a', 'b c', 'd'].map((database) => ({ database })), [{}]],
    ['sameuser', 'host sameuser all all trust', [{ database: 'web' }], [{}]],
    ['a quoted keyword as a name', 'host "all" all all trust', [{ database: 'all' }], [{}]],
    ['a quoted sameuser as a name', 'host "sameuser" all all trust', [{ database: 'sameuser' }], [{ database: 'web' }]],
    ['an expression for databases', 'host /^app_\\d+$ all all trust', [{ database: 'app_12' }], [{ database: 'app_' }]],
    [
      'replication by its keyword',
      'host replication all all trust',
      [{ replication: true }],
      [{ database: 'replication' }],
    ],
    ['all, but not for replication', 'host all all all trust', [{}], [{ replication: true }]],
    ['the user', 'host all web all trust', [{}], [{ user: 'we' }, { user: 'all' }]],
    ['a list of users', 'host all a,b all trust', [{ user: 'a' }, { user: 'b' }], [{ user: 'a,b' }, {}]],
    ['an expression for users', 'host all "/^a,b" all trust', [{ user: 'a,bc' }], [{ user: 'a' }]],
    ['a quoted name with a plus', 'host all "+web" all trust', [{ user: '+web' }], [{}]],
    ['a quoted name with an at', 'host "@app" all all trust', [{ database: '@app' }], [{}]],
    ['a name with a quote', 'host "a""b" all all trust', [{ database: 'a"b' }], [{ database: 'ab' }]],
    ['a name quoted in part', 'host my" app" all all trust', [{ database: 'my app' }], [{}]],
    ['an IPv4 network', 'host all all 10.1.0.0/16 trust', [{}], [{ from: '10.2.2.3' }, { from: '::1' }]],
    ['an IPv4 network with bits beyond its mask', 'host all all 10.1.9.9/16 trust', [{}], [{ from: '10.2.9.9' }]],
    ['one IPv4 address', 'host all all 10.1.2.3/32 trust', [{}], [{ from: '10.1.2.2' }]],
    ['any IPv4 address', 'host all all 0.0.0.0/0 trust', [{}], [{ from: '::1' }]],
    ['an address and a mask', 'host all all 10.1.0.0 255.255.0.0 trust', [{}], [{ from: '10.2.2.3' }]],
    ['one IPv6 address', 'host all all ::1/128 trust', [{ from: '::1' }], [{ from: '::2' }, {}]],
    [
      'an IPv6 network',
      'host all all 2001:db8::/33 trust',
      [{ from: '2001:db8:7fff::1' }],
      [{ from: '2001:db8:8000::1' }],
    ],
    ['an IPv6 address and a mask', 'host all all fe80:: ffc0:: trust', [{ from: 'fe9f::1' }], [{ from: 'fec0::1' }]],
    ['any IPv6 address', 'host all all ::/0 trust', [{ from: 'fe80::1' }], [{}]],
    ['a line that goes on', 'host \\\nall all \\\n  all trust', [{}], [{ from: '' }]],
    ['a line with a comment', 'host all all all trust# to be closed', [{}], [{ from: '' }]],
    ['a line with tabs', '\thost\tall\tall\tall\ttrust\t', [{}], [{ from: '' }]],
  ])('%s', ([, rule, matching, others]) => {
    expect(matching.map((visit) => methodFor(rule, visit))).toEqual(matching.map(() => 'trust'))
    expect(others.map((visit) => methodFor(rule, visit))).toEqual(others.map(() => '-'))
  })
})

test('the first rule that matches decides, also to refuse', () => {
  const rules = `
    # TYPE   DATABASE  USER     ADDRESS        METHOD
    hostnossl all      all      all            reject
    hostssl  all       web      10.0.0.0/8     scram-sha-256
    hostssl  all       all      all            cert  map=people
    host     all       all      all            trust
  `

  expect(methodFor(rules, {})).toBe('reject')
  expect(methodFor(rules, { tls: true })).toBe('scram-sha-256')
  expect(methodFor(rules, { tls: true, from: '192.0.2.1' })).toBe('cert')
})

test('options are read', () => {
  const { rules } = parseHba('hostssl all all all cert "map=my map"\nhostssl all all all md5 clientcert=verify-ca')

  expect(rules).toMatchObject([
    { line: 1, map: 'my map', clientcert: null },
    { line: 2, map: null, clientcert: 'verify-ca' },
  ])
})

describe('a line is refused that has', () => {
  test.for([
    [
      'another type',
      'hostgssenc all all all trust',
      /^must begin with one of local, host, hostssl, hostnossl; got "hostg/,
    ],
    ['an include', 'include /etc/pg_hba.conf', /^must begin with one of/],
    ['a list of types', 'local,host all all all trust', /^must begin with one of .*; got "local,host"/],
    ['nothing but a type', 'local', /^must have a database$/],
    ['no user', 'local all', /^must have a user$/],
    ['no address', 'host all all', /^must have an address, such as .*; got nothing/],
    ['no method', 'local all all', /^must have a method, one of trust, .*; got nothing/],
    ['a method where the address should be', 'host all all trust', /^must have a network such as .*; got "trust"/],
    ['a method that is not offered', 'host all all all ldap', /^must have a method, one of .*; got "ldap"/],
    ['a role whose members are meant', 'host all +web all trust', /^role membership \(\+\) is not supported/],
    ['a file of users', 'host all @users all trust', /^a file of names \(@\) is not supported/],
    ['a file of databases', 'host @dbs all all trust', /^a file of names \(@\) is not supported/],
    ['samerole', 'host samerole all all trust', /^samerole is not supported/],
    ['samehost', 'host all all samehost trust', /^samehost is not supported; list the networks/],
    ['samenet', 'host all all samenet trust', /^samenet is not supported/],
    ['the name of a host', 'host all all example.com trust', /host names are not supported; got "example.com"/],
    ['a part of an address', 'host all all 10.1 trust', /got "10.1"/],
    ['an octal number', 'host all all 010.0.0.0/8 trust', /got "010.0.0.0\/8"/],
    ['a number above 255', 'host all all 10.0.0.256/8 trust', /got "10.0.0.256\/8"/],
    ['an address without a mask', 'host all all 10.0.0.1 trust', /^"10.0.0.1" must be followed by a prefix length/],
    ['too many bits', 'host all all 10.0.0.0/33 trust', /^"10.0.0.0\/33" is not a network: .* from 0 to 32/],
    ['too many bits of IPv6', 'host all all ::/129 trust', /from 0 to 128/],
    ['no bits', 'host all all ::/ trust', /^"::\/" is not a network/],
    ['a mask with holes', 'host all all 10.0.0.0 255.0.255.0 trust', /^"255.0.255.0" is not a valid mask for 10.0.0.0/],
    ['a mask of the other family', 'host all all 10.0.0.0 ffff:: trust', /^"ffff::" is not a valid mask for 10.0.0.0/],
    ['an IPv6 address of nine groups', 'host all all 1:2:3:4:5:6:7:8:9/128 trust', /as address/],
    ['two gaps in an address', 'host all all 1::2::3/128 trust', /as address/],
    ['a zone', 'host all all fe80::1%eth0/128 trust', /as address/],
    ['an expression that is none', 'host /( all all trust', /^"\/\(" is not a valid regular expression/],
    ['a quote that is not closed', 'host "all all all trust', /^unterminated quoted string/],
    ['an unknown option', 'host all all all md5 ldapserver=x', /^unknown option "ldapserver"/],
    ['a word after the method', 'host all all all md5 please', /^must end with options .*; got "please"/],
    ['a map for a password', 'host all all all md5 map=people', /^map can be used with the method cert only/],
    ['an empty map', 'hostssl all all all cert map=', /^map must have a value/],
    ['cert without TLS', 'host all all all cert', /^cert requires a hostssl line/],
    ['clientcert without TLS', 'host all all all md5 clientcert=verify-ca', /^clientcert requires a hostssl line/],
    ['another clientcert', 'hostssl all all all md5 clientcert=1', /^clientcert must be verify-ca or verify-full/],
    ['less than cert demands', 'hostssl all all all cert clientcert=verify-ca', /^clientcert must be verify-full/],
  ] as const)('%s', ([, line, message]) => {
    const { rules, faults } = parseHba(`# first\nlocal all all \\\n reject\n${line}\nhost all all all md5`)

    expect(faults).toEqual([{ line: 4, message: expect.stringMatching(message) as string }])
    expect(rules.map((rule) => rule.line)).toEqual([2, 5])
  })
})

describe('a map leads', () => {
  const { lines, faults } = parseIdent(String.raw`
    # MAP   SYSTEM               USER
    staff   alice                web
    staff   alice                jobs
    staff   /^(.*)@example\.com$ \1
    staff   /^(.*)@example\.org$ org_\1
    staff   root                 all
    staff   /^dba-               "/^(web|jobs)$"
    other   bob                  "all"
  `)

  test.for([
    ['from a name to another', 'staff', 'alice', 'web', true],
    ['from a name to several', 'staff', 'alice', 'jobs', true],
    ['nowhere else', 'staff', 'alice', 'alice', false],
    ['from an expression to what its group matched', 'staff', 'web@example.com', 'web', true],
    ['not to what another group would be', 'staff', 'web@example.com', 'jobs', false],
    ['not from a name that only begins alike', 'staff', 'web@example.com.evil', 'web', false],
    ['to a text around the group', 'staff', 'web@example.org', 'org_web', true],
    ['to a text with a dollar in it', 'staff', '$&@example.org', 'org_$&', true],
    ['to all', 'staff', 'root', 'other', true],
    ['to an expression', 'staff', 'dba-1', 'jobs', true],
    ['not beyond an expression', 'staff', 'dba-1', 'ledger', false],
    ['not from another map', 'other', 'alice', 'web', false],
    ['to a quoted all as a name', 'other', 'bob', 'all', true],
    ['not from a quoted all to all users', 'other', 'bob', 'web', false],
    ['nowhere when it is not there', 'third', 'alice', 'web', false],
    ['to the same name without a map', null, 'web', 'web', true],
    ['to no other name without a map', null, 'alice', 'web', false],
  ] as const)('%s', ([, map, system, user, expected]) => {
    expect(faults).toEqual([])
    expect(mayBe(lines, map, system, user)).toBe(expected)
  })

  test.for([
    ['two words', 'staff alice', /^must have three fields/],
    ['four words', 'staff alice web jobs', /^must have three fields/],
    ['a list', 'staff alice,bob web', /^must have three fields/],
    ['an include', 'include_dir a b', /^include_dir is not supported/],
    ['an expression that is none', 'staff /[ web', /^"\/\[" is not a valid regular expression/],
    ['an expression for the user that is none', 'staff alice /[', /^"\/\[" is not a valid regular expression/],
    ['a group without an expression', 'staff alice \\1', /^\\1 requires a regular expression/],
    ['a group that is not there', 'staff /^a \\1', /^\\1 requires a group/],
    ['members of a role', 'staff alice +web', /^role membership/],
  ] as const)('not from a line with %s', ([, line, message]) => {
    expect(parseIdent(`\n${line}`)).toEqual({
      lines: [],
      faults: [{ line: 2, message: expect.stringMatching(message) as string }],
    })
  })
})
