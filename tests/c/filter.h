/* Seccomp filters from a text: `EPERM:mbind,madvise` or `KILL:mbind`. No allocation. */
#ifndef ZONAL_FILTER_H
#define ZONAL_FILTER_H
#include "t.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static int filter_number(const char *name, size_t n)
{
	static const struct { const char *name; int number; } known[] = {
		{ "mbind", SYS_mbind }, { "set_mempolicy", SYS_set_mempolicy }, { "get_mempolicy", SYS_get_mempolicy },
		{ "madvise", SYS_madvise }, { "process_madvise", 440 }, { "membarrier", SYS_membarrier },
		{ "rseq", 
#ifdef SYS_rseq
		SYS_rseq
#else
		334
#endif
		}, { "getcpu", SYS_getcpu }, { "getrandom", SYS_getrandom }, { "openat", SYS_openat },
#ifdef SYS_open
		{ "open", SYS_open },
#endif
		{ "mremap", SYS_mremap }, { "clone", SYS_clone }, { "clone3", 435 }, { "pidfd_open", 434 },
		{ "clock_gettime", SYS_clock_gettime }, { "mincore", SYS_mincore }, { "prctl", SYS_prctl }, { "sched_getaffinity", SYS_sched_getaffinity },
		{ "read", SYS_read }, { "futex", SYS_futex }, { "move_pages", SYS_move_pages },
		{ "mkdirat", SYS_mkdirat }, { "ftruncate", SYS_ftruncate }, { "fallocate", SYS_fallocate }, { "unlinkat", SYS_unlinkat },
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strlen(known[i].name) == n && !strncmp(known[i].name, name, n))
			return known[i].number;
	FAIL("filter: no call %.*s", (int)n, name);
}

static uint32_t filter_answer(const char *text, size_t n)
{
	static const struct { const char *name; uint32_t answer; } known[] = {
		{ "EPERM", SECCOMP_RET_ERRNO | EPERM }, { "ENOSYS", SECCOMP_RET_ERRNO | ENOSYS },
		{ "ENOMEM", SECCOMP_RET_ERRNO | ENOMEM }, { "EAGAIN", SECCOMP_RET_ERRNO | EAGAIN },
		{ "EINVAL", SECCOMP_RET_ERRNO | EINVAL }, { "KILL", SECCOMP_RET_KILL_PROCESS },
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strlen(known[i].name) == n && !strncmp(known[i].name, text, n))
			return known[i].answer;
	FAIL("filter: no answer %.*s", (int)n, text);
}

__attribute__((unused)) static void filter_install(const char *text)
{
	struct sock_filter code[64];
	struct sock_fprog program = { 0, code };
	const char *colon = strchr(text, ':');
	uint32_t answer;

	if (!colon)
		FAIL("filter: %s", text);
	answer = filter_answer(text, colon - text);
	code[program.len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (const char *at = colon + 1; *at;) {
		size_t n = strcspn(at, ",");

		code[program.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, filter_number(at, n), 0, 1);
		code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer);
		at += n + (at[n] == ',');
	}
	code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}
#endif
