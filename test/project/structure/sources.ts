/** The project's sources as TypeScript itself parses them: lines, imports (types included), functions, field writes. */
import { relative } from 'node:path'
import { SyntaxKind } from 'typescript/unstable/ast'
import type {
  BinaryExpression,
  Expression,
  Node,
  PostfixUnaryExpression,
  PrefixUnaryExpression,
  SourceFile,
} from 'typescript/unstable/ast'
import { API } from 'typescript/unstable/sync'
import type { Project } from 'typescript/unstable/sync'

export interface Source {
  /** Relative to the root. */
  readonly path: string
  readonly lines: number
  /** Files of this project that it imports, each once, in any way: values, types, `import()`, `export … from`. */
  readonly imports: readonly string[]
  readonly functions: readonly FunctionLines[]
  readonly fieldWrites: readonly FieldWrite[]
}

export interface FunctionLines {
  readonly name: string
  /** Of its first line, counted from 1. */
  readonly line: number
  readonly lines: number
}

/** An assignment to a field of a class that another file declares. */
export interface FieldWrite {
  readonly owner: string
  readonly field: string
  readonly line: number
}

/** Reads what `root/tsconfig.json` includes. */
export function readSources(root: string): Source[] {
  const api = new API({ cwd: root })
  try {
    const config = `${root}/tsconfig.json`
    const project = api.updateSnapshot({ openProjects: [config] }).getProject(config)
    if (project === undefined) throw new Error(`no project at ${config}`)
    return project.rootFiles.map((path) => {
      const file = project.program.getSourceFile(path)
      if (file === undefined) throw new Error(`not parsed: ${path}`)
      return sourceOf(root, project, file)
    })
  } finally {
    api.close()
  }
}

function sourceOf(root: string, project: Project, file: SourceFile): Source {
  const functions: FunctionLines[] = []
  const writes: Expression[] = []
  visit(file, (node) => {
    if (isFunction(node)) functions.push({ name: nameOf(node), ...extent(file, node) })
    const target = written(node)
    if (target !== undefined) writes.push(target)
  })
  return {
    path: relative(root, file.fileName),
    lines: file.text.split('\n').length - 1,
    imports: importsOf(root, file),
    functions,
    fieldWrites: fieldWritesIn(project, file, writes),
  }
}

function visit(node: Node, seen: (node: Node) => void): void {
  seen(node)
  node.forEachChild((child) => visit(child, seen))
}

/** Every import names its file with the extension, so no resolution is needed. */
function importsOf(root: string, file: SourceFile): string[] {
  const targets = file.imports
    .map((specifier) => (specifier as Node & { readonly text: string }).text)
    .filter((text) => text.startsWith('.'))
    .map((text) => relative(root, new URL(text, `file://${file.fileName}`).pathname))
  return [...new Set(targets)]
}

const functionKinds: ReadonlySet<SyntaxKind> = new Set([
  SyntaxKind.ArrowFunction,
  SyntaxKind.Constructor,
  SyntaxKind.FunctionDeclaration,
  SyntaxKind.FunctionExpression,
  SyntaxKind.GetAccessor,
  SyntaxKind.MethodDeclaration,
  SyntaxKind.SetAccessor,
])

function isFunction(node: Node): boolean {
  return functionKinds.has(node.kind)
}

/** Of a declaration, or of what the function is assigned to; "Class.method" within a class. */
function nameOf(node: Node): string {
  const own = declaredName(node) ?? declaredName(node.parent) ?? '(anonymous)'
  const name = node.kind === SyntaxKind.Constructor ? 'constructor' : own
  const isMember = node.parent.kind === SyntaxKind.ClassDeclaration
  return isMember ? `${declaredName(node.parent) ?? '(class)'}.${name}` : name
}

function declaredName(node: Node): string | undefined {
  const { name } = node as Node & { readonly name?: Node & { readonly text?: string } }
  return name?.text
}

function extent(file: SourceFile, node: Node): { line: number; lines: number } {
  const first = lineOf(file, node)
  return { line: first + 1, lines: file.getLineAndCharacterOfPosition(node.end).line - first + 1 }
}

/** Counted from 0. */
function lineOf(file: SourceFile, node: Node): number {
  return file.getLineAndCharacterOfPosition(node.getStart(file)).line
}

/** The field on the left of an assignment, or beside `++` and `--`. */
function written(node: Node): Expression | undefined {
  const target = assignee(node)
  return target?.kind === SyntaxKind.PropertyAccessExpression ? target : undefined
}

function assignee(node: Node): Expression | undefined {
  if (node.kind === SyntaxKind.BinaryExpression) {
    const { left, operatorToken } = node as BinaryExpression
    return assigns(operatorToken.kind) ? left : undefined
  }
  if (node.kind !== SyntaxKind.PrefixUnaryExpression && node.kind !== SyntaxKind.PostfixUnaryExpression)
    return undefined
  const { operand, operator } = node as PrefixUnaryExpression | PostfixUnaryExpression
  return operator === SyntaxKind.PlusPlusToken || operator === SyntaxKind.MinusMinusToken ? operand : undefined
}

function assigns(kind: SyntaxKind): boolean {
  return kind >= SyntaxKind.FirstAssignment && kind <= SyntaxKind.LastAssignment
}

function fieldWritesIn({ checker }: Project, file: SourceFile, targets: readonly Expression[]): FieldWrite[] {
  return checker.getSymbolAtLocation(targets).flatMap((symbol, index) => {
    const declaration = symbol?.valueDeclaration
    if (symbol === undefined || declaration?.kind !== SyntaxKind.PropertyDeclaration) return []
    if (declaration.path === file.path || declaration.path.includes('/node_modules/')) return []
    const owner = symbol.getParent()?.name ?? '(class)'
    return [{ owner, field: symbol.name, line: lineOf(file, targets[index] as Expression) + 1 }]
  })
}
