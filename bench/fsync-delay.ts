import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isThere } from '../test/support/programs.ts'

/** A library in C. Preloaded into a program, it waits after each fsync, as a slower disk would. */
const SOURCE = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int slowly(const char *name, int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  int result = real(fd);
  struct timespec pause = {DELAY_MS / 1000, (DELAY_MS % 1000) * 1000000};
  nanosleep(&pause, NULL);
  return result;
}

int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }
`

/** The C compiler on PATH, if there is one. */
function compiler(): string | undefined {
  return ['cc', 'gcc', 'clang'].find(isThere)
}

/** Why no fsync can be slowed down here; undefined if it can. */
export function fsyncDelayProblem(): string | undefined {
  return compiler() === undefined
    ? 'there is no C compiler (cc, gcc, clang) on PATH to build what slows an fsync down'
    : undefined
}

/** Builds a library in `dir`, and returns the environment of a program whose every fsync is to take `delayMs` longer. */
export function buildFsyncDelay(dir: string, delayMs: number): Record<string, string> {
  const source = join(dir, 'fsync-delay.c')
  const library = join(dir, 'fsync-delay.so')
  writeFileSync(source, SOURCE)
  execFileSync(compiler()!, ['-shared', '-fPIC', '-O1', `-DDELAY_MS=${delayMs}`, '-o', library, source, '-ldl'])
  return { LD_PRELOAD: library }
}
