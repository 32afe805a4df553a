/* One hard condition each: `world NAME key=value...`. What the host program does must work as without zonal. */
#include "t.h"
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <ucontext.h>
#ifndef PTHREAD_STACK_MIN
#define PTHREAD_STACK_MIN 16384
#endif

/* Blocks of every kind: from bins, by pages, mapped; grown; zeroed; freed but for one. */
static void *churn(uint64_t seed)
{
	void *kept = NULL;

	for (int i = 0; i < 60; i++) {
		size_t size = i == 30 ? MIB(5) : t_size(&seed, KIB(200));
		char *p = calloc(1, size);

		CHECK(p && t_is_zero(p, size > 4096 ? 4096 : size));
		t_fill(p, size, i);
		CHECK((p = realloc(p, size + size / 2 + 1)) != NULL);
		VERIFY(p, size & ~(size_t)7, (uint64_t)i);
		free(kept);
		kept = p;
	}
	return kept;
}

static void *churn_thread(void *seed)
{
	free(churn(7 + (uintptr_t)seed));
	return NULL;
}

static void threads(int n, size_t stack)
{
	pthread_t thread[64];
	pthread_attr_t attr;

	CHECK(n <= 64);
	pthread_attr_init(&attr);
	if (stack)
		CHECK(pthread_attr_setstacksize(&attr, stack) == 0);
	for (long i = 0; i < n; i++)
		CHECK(pthread_create(&thread[i], &attr, churn_thread, (void *)i) == 0);
	for (int i = 0; i < n; i++)
		CHECK(pthread_join(thread[i], NULL) == 0);
}

/* Threads with the least stack that POSIX allows. */
static void small_stacks(char **argv)
{
	(void)argv;
	for (int round = 0; round < 8; round++)
		threads(16, PTHREAD_STACK_MIN);
}

/* No descriptor is left: not for zonal either. */
static void full_table(char **argv)
{
	struct rlimit limit = { 64, 64 };

	(void)argv;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	while (open("/dev/null", O_RDONLY) >= 0) { }
	CHECK(errno == EMFILE);
	free(churn(1));
	threads(8, 0);
	malloc_trim(0);
	CHECK(open("/dev/null", O_RDONLY) < 0 && errno == EMFILE);
}

static volatile sig_atomic_t in_handlers;
static volatile char *stack_start, *stack_end;

static void allocate_in_handler(int number)
{
	char here;
	int kept = errno;
	void *p = malloc(100 + number), *q = calloc(3, 1000);

	CHECK(p && q && t_is_zero(q, 3000));
	CHECK(&here >= stack_start && &here < stack_end);
	memset(p, 1, 100);
	free(q);
	free(p);
	in_handlers++;
	errno = kept;
}

/* Handlers on an alternate stack, of the smallest useful size, that interrupt malloc and call it. */
static void alternate_stack(char **argv)
{
	long least = sysconf(_SC_MINSIGSTKSZ);
	stack_t stack = { .ss_size = (least > 0 ? least : 4096) + KIB(8) };
	struct sigaction action = { .sa_handler = allocate_in_handler, .sa_flags = SA_ONSTACK };
	struct itimerspec every = { { 0, 100000 }, { 0, 100000 } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	timer_t timer;

	(void)argv;
	stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_start = stack.ss_sp;
	stack_end = stack_start + stack.ss_size;
	CHECK(stack.ss_sp != MAP_FAILED && sigaltstack(&stack, NULL) == 0);
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &every, NULL) == 0);
	for (double until = t_now() + 1; t_now() < until || in_handlers < 500;)
		free(churn(in_handlers + 1));
	timer_delete(timer);
}

static int wait_for(pid_t child)
{
	int status;

	CHECK(child > 0 && waitpid(child, &status, 0) == child);
	return status;
}

/* A child that has a copy of the memory, and of which nobody told zonal. */
static void raw_clone(char **argv)
{
	(void)argv;
	for (int i = 0; i < 50; i++) {
		char *before = churn(i + 1);
		long child = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

		if (child == 0) {
			before[0] = 1;
			free(before);
			free(churn(i + 2));
			_exit(7);
		}
		int status = wait_for(child);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
		free(before);
	}
}

/* The kernel allows this only to a process with one thread. Exits 77 where it allows it to nobody. */
static void single_threaded(char **argv)
{
	(void)argv;
	for (int i = 0; i < 40; i++)
		free(churn(i + 1));
	usleep(200000);
	free(churn(99));
	if (unshare(CLONE_NEWUSER) != 0)
		_exit(errno == EPERM || errno == ENOSPC || errno == ENOSYS ? 77 : 1);
	free(churn(100));
}

/* Stopped at every system call by a tracer. */
static void traced(char **argv)
{
	long stops = 0;
	int status;
	pid_t child = fork();

	(void)argv;
	if (child == 0) {
		CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
		raise(SIGSTOP);
		for (int i = 0; i < 20; i++)
			free(churn(i + 1));
		threads(4, 0);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
	CHECK(ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(long)(PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL)) == 0);
	CHECK(ptrace(PTRACE_SYSCALL, child, NULL, NULL) == 0);
	for (;;) {
		pid_t who = waitpid(-1, &status, __WALL);
		int stop;

		if (who == child && !WIFSTOPPED(status))
			break;
		if (who < 0)
			FAIL("waitpid: %d", errno);
		if (!WIFSTOPPED(status))
			continue;
		stops++;
		stop = WSTOPSIG(status);
		ptrace(PTRACE_SYSCALL, who, NULL, (void *)(long)(stop == SIGTRAP || stop == SIGSTOP ? 0 : stop));
	}
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0 && stops > 50);
}

/* The kernel, and another process, write into memory that the program never touched. */
static void kernel_copies(char **argv)
{
	static const size_t sizes[] = { 16, 100, 1000, 5000, 40000, 300000, 3000000, 9000000 };
	int zero = open("/dev/zero", O_RDONLY), ends[2];

	(void)argv;
	CHECK(zero >= 0 && pipe(ends) == 0);
	for (int round = 0; round < 6; round++) {
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			size_t n = sizes[i];
			char *p = malloc(n), *q = malloc(n);
			struct iovec from = { q, n }, to = { p, n };

			CHECK(p && q);
			/* Twice of the same kind: fresh, and given back to the system before. */
			CHECK(read(zero, p, n) == (ssize_t)n && t_is_zero(p, n));
			t_fill(q, n, n);
			CHECK(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == (ssize_t)n || errno == EPERM || errno == ENOSYS);
			if (n <= 5000) {
				char *r = malloc(n);

				CHECK(write(ends[1], q, n) == (ssize_t)n && read(ends[0], r, n) == (ssize_t)n);
				VERIFY(r, n, n);
				free(r);
			}
			free(q);
			free(p);
		}
		malloc_trim(0);
	}
}

static pthread_barrier_t all_there;

static void *one_of_many(void *arg)
{
	char *p = malloc(64), *q = malloc(2000);

	CHECK(p && q);
	t_fill(p, 64, (uintptr_t)arg);
	pthread_barrier_wait(&all_there);
	VERIFY(p, 64, (uintptr_t)arg);
	free(q);
	return p;
}

/* Thousands of threads at one time, each with a heap. Exits 77 where the system does not allow so many. */
static void many_threads(char **argv)
{
	long n = t_long(argv, "count", 10000), made = 0;
	pthread_t *thread = calloc(n, sizeof *thread);
	pthread_attr_t attr;
	size_t before, after;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, KIB(32));
	pthread_barrier_init(&all_there, NULL, n + 1);
	before = t_rss();
	for (; made < n; made++)
		if (pthread_create(&thread[made], &attr, one_of_many, (void *)made) != 0)
			_exit(77);
	pthread_barrier_wait(&all_there);
	after = t_rss();
	for (long i = 0; i < n; i++) {
		void *p;

		CHECK(pthread_join(thread[i], &p) == 0);
		VERIFY(p, 64, (uint64_t)i);
		free(p);
	}
	free(thread);
	/* A thread costs its stack's page or two, glibc's own, and a heap. */
	if ((after - before) / n > KIB(t_long(argv, "most", 48)))
		FAIL("%zu bytes resident for each of %ld threads", (after - before) / n, n);
}

static int (*choose(void))(int)
{
	extern int plus_one(int);
	void *p = malloc(1000);
	char *q = calloc(10, 100);

	if (p && q && t_is_zero(q, 1000)) {
		free(p);
		free(q);
		return plus_one;
	}
	return NULL;
}

int plus_one(int n)
{
	return n + 1;
}

int by_ifunc(int n) __attribute__((ifunc("choose")));

/* The loader asked a resolver that allocates, before anything was initialised. */
static void ifunc(char **argv)
{
	(void)argv;
	CHECK(by_ifunc(41) == 42);
	free(churn(1));
}

static ucontext_t here, there;

static void shallow_calls(void)
{
	for (int round = 0; round < 3; round++)
		free(churn(round + 1));
	swapcontext(&there, &here);
}

/* How deep calls that find memory go: programs call malloc on small stacks. On a thread that called before. */
static void *on_painted_stack(void *most)
{
	size_t size = KIB(64), clean = 0;
	unsigned char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(stack != MAP_FAILED);
	for (int round = 0; round < 2; round++) {
		memset(stack, 0xa5, size);
		CHECK(getcontext(&there) == 0);
		there.uc_stack.ss_sp = stack;
		there.uc_stack.ss_size = size;
		makecontext(&there, shallow_calls, 0);
		CHECK(swapcontext(&here, &there) == 0);
	}
	while (clean < size && stack[clean] == 0xa5)
		clean++;
	if (size - clean > (size_t)most)
		FAIL("%zu bytes of stack", size - clean);
	return NULL;
}

static void shallow(char **argv)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, on_painted_stack, (void *)t_long(argv, "most", 4096)) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}

/* Room for a limit that the loader has already been through. */
static void limits(char **argv)
{
	static const int lowered[] = { RLIMIT_STACK, RLIMIT_FSIZE, RLIMIT_MEMLOCK, RLIMIT_NPROC, RLIMIT_CORE,
		RLIMIT_NOFILE, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RSS };

	(void)argv;
	for (size_t i = 0; i < sizeof lowered / sizeof *lowered; i++) {
		struct rlimit limit = { lowered[i] == RLIMIT_STACK ? KIB(64) : 0, RLIM_INFINITY };

		getrlimit(lowered[i], &(struct rlimit){ 0, 0 });
		limit.rlim_max = limit.rlim_cur;
		CHECK(setrlimit(lowered[i], &limit) == 0);
		free(churn(i + 1));
	}
	malloc_trim(0);
	free(churn(1));
}

int main(int argc, char **argv)
{
	static const struct { const char *name; void (*run)(char **); } all[] = {
		{ "small_stacks", small_stacks }, { "full_table", full_table }, { "alternate_stack", alternate_stack },
		{ "raw_clone", raw_clone }, { "single_threaded", single_threaded }, { "traced", traced },
		{ "kernel_copies", kernel_copies }, { "many_threads", many_threads }, { "ifunc", ifunc },
		{ "limits", limits }, { "shallow", shallow },
	};

	CHECK(argc > 1);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (!strcmp(all[i].name, argv[1])) {
			all[i].run(argv + 1);
			return 0;
		}
	FAIL("no condition %s", argv[1]);
}
