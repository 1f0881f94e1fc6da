/* Hides instructions of the CPU from the program that loads this: the kernel then traps cpuid, by which libraries ask
   what there is, and the answer is given here without them (CPUID faulting; Linux on x86-64, Ivy Bridge and later). */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_SET_CPUID = 0x1012 };

/* Bits of leaf 7, by subleaf: ebx, ecx, edx of the first, eax and edx of the second. */
#define AMX_EDX (1u << 22 | 1u << 24 | 1u << 25)
#define AMX_1_EAX (1u << 21)
#define AMX_1_EDX (1u << 8)
#define AVX512_EBX (1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31)
#define AVX512_ECX (1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14)
#define AVX512_EDX (1u << 2 | 1u << 3 | 1u << 8 | 1u << 23)
#define AFTER_AVX2_1_EAX (1u << 4 | 1u << 5 | 1u << 23)             /* AVX-VNNI, AVX512-BF16, AVX-IFMA */
#define AFTER_AVX2_1_EDX (1u << 4 | 1u << 5 | 1u << 10 | 1u << 19)  /* AVX-VNNI-INT8, -NE-CONVERT, -INT16, AVX10 */

static int hides_avx512;

static void answer(int number, siginfo_t *info, void *context) {
  greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
  (void)info;
  if (memcmp((void *)r[REG_RIP], "\x0f\xa2", 2)) { /* not cpuid, but a fault as any other */
    signal(number, SIG_DFL);
    return;
  }
  uint32_t leaf = (uint32_t)r[REG_RAX], sub = (uint32_t)r[REG_RCX], a, b, c, d;
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
  __cpuid_count(leaf, sub, a, b, c, d);
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
  if (leaf == 7 && sub == 0) d &= ~AMX_EDX;
  if (leaf == 7 && sub == 1) a &= ~AMX_1_EAX, d &= ~AMX_1_EDX;
  if (hides_avx512 && leaf == 7 && sub == 0) b &= ~AVX512_EBX, c &= ~AVX512_ECX, d &= ~AVX512_EDX;
  if (hides_avx512 && leaf == 7 && sub == 1) a &= ~AFTER_AVX2_1_EAX, d &= ~AFTER_AVX2_1_EDX;
  r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d, r[REG_RIP] += 2;
}

/* Hides AMX, or all that came after AVX2, from this thread and those that it starts. 0, or the system's error. */
int hold(int to_avx2) {
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
  hides_avx512 = to_avx2;
  if (sigaction(SIGSEGV, &action, NULL) || syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) return errno;
  return 0;
}
