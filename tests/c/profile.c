/* Allocates known amounts from functions with telling names, for the heap profile.
 *
 *   profile shares         30 MB small and 90 MB large stay alive, 60 MB are freed again
 *   profile leak           one function frees all it takes, one nothing
 *   profile threads        four threads share the work, one forks in the middle
 *   profile signals        a timer's handler allocates and frees meanwhile
 *   profile api            starts, stops and dumps by zonal.h
 *   profile stack FILE     the signal comes while the thread is on an alternate stack: with room, or without
 *   profile serve          says "ready", works until its input ends
 * Built with -fomit-frame-pointer (the compiler's default): see tests/tests/profile.rs. */
#include "t.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/time.h>

#define NOINLINE __attribute__((noinline, noclone))
#define MB (1000 * 1000)

static void **kept;
static size_t nr_kept;

NOINLINE static void keep(void *object)
{
	CHECK(object != NULL && nr_kept < 1000 * 1000);
	__atomic_store_n(&kept[__atomic_fetch_add(&nr_kept, 1, __ATOMIC_RELAXED)], object,
					 __ATOMIC_RELAXED);
}

NOINLINE void grow_small(size_t bytes)
{
	for (size_t done = 0; done < bytes; done += 1000)
		keep(malloc(1000));
}

NOINLINE void grow_large(size_t bytes)
{
	for (size_t done = 0; done < bytes; done += 20 * 1000)
		keep(calloc(20, 1000));
}

NOINLINE void churn(size_t bytes)
{
	for (size_t done = 0; done < bytes; done += 500)
		free(malloc(500));
}

static void *work(void *share)
{
	size_t mb = (size_t)share;
	churn(mb * 2 * MB);
	grow_small(mb * MB);
	grow_large(mb * 3 * MB);
	return NULL;
}

static void threads(void)
{
	pthread_t all[4];
	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&all[i], NULL, work, (void *)(size_t)8) == 0);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		/* Its own share of everything; its own file. */
		work((void *)(size_t)8);
		exit(0);
	}
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(all[i], NULL) == 0);
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	/* What other threads allocated is freed here. */
	for (size_t i = 0; i < nr_kept; i++)
		free(kept[i]);
}

static volatile sig_atomic_t nr_ticks;

static void tick(int signal)
{
	(void)signal;
	free(malloc(3000));
	nr_ticks++;
}

static void signals(void)
{
	struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
	struct itimerval timer = {{0, 500}, {0, 500}};
	CHECK(sigaction(SIGALRM, &action, NULL) == 0);
	CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
	while (nr_ticks < 300) {
		churn(MB);
		free(realloc(malloc(40000), 90000));
	}
	timer.it_value.tv_usec = timer.it_interval.tv_usec = 0;
	CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
	work((void *)(size_t)30);
}

static void api(const char *path)
{
	int (*start)(size_t) = (int (*)(size_t))dlsym(RTLD_DEFAULT, "zonal_profile_start");
	int (*stop)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "zonal_profile_stop");
	int (*dump)(int) = (int (*)(int))dlsym(RTLD_DEFAULT, "zonal_profile_dump");
	CHECK(start && stop && dump);
	CHECK(dump(1) == -1 && errno == ENODATA);
	grow_large(50 * MB); /* not seen */
	CHECK(start(64 << 10) == 0);
	churn(30 * MB);
	CHECK(stop() == 0);
	grow_large(50 * MB); /* not seen either */
	/* A new profile forgets the one before. */
	CHECK(start(64 << 10) == 0);
	grow_small(30 * MB);
	CHECK(stop() == 0);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0 && dump(fd) == 0 && close(fd) == 0);
	CHECK(dump(-1) == -1 && errno == EBADF);
}

/* Raises SIGUSR1 on an alternate stack of which `room` bytes are left; 0 only measures a handler's frame. */
static size_t room, frame_size;

static void on_usr2(int number)
{
	char here, *start;
	stack_t stack;

	(void)number;
	CHECK(sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_ONSTACK));
	start = stack.ss_sp;
	if (room == 0) {
		frame_size = start + stack.ss_size - &here;
		return;
	}
	/* Goes down until no more is left, and asks there. */
	size_t used = &here - start > (long)room ? &here - start - room : 0;
	char frame[used + 1];
	frame[0] = 1;
	__asm__ volatile("" : : "r"(frame) : "memory");
	raise(SIGUSR1);
}

static void stack(const char *path)
{
	static char alternate[256 << 10];
	struct sigaction action = {.sa_handler = on_usr2, .sa_flags = SA_ONSTACK};
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};

	free(malloc(1)); /* the first allocation sets the handler */
	CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR2, &action, NULL) == 0);
	raise(SIGUSR2);
	for (int small = 0; small <= 1; small++) {
		/* The second time there is room for the signal itself and hardly more. */
		room = small ? frame_size + (2 << 10) : sizeof alternate / 2;
		raise(SIGUSR2);
		free(malloc(100000)); /* a slow path, which pays what is owed */
		grow_small(30 * MB);
		CHECK(access(path, F_OK) != 0);
		raise(SIGUSR2);
		CHECK((access(path, F_OK) == 0) == !small);
		free(malloc(100000));
		CHECK(unlink(path) == 0);
	}
}

static void serve(void)
{
	/* Slow enough that its room lasts for half a minute, and as slow on a busy machine. */
	struct timeval patience = {0, 10000};
	puts("ready");
	fflush(stdout);
	for (;;) {
		fd_set input;
		FD_ZERO(&input);
		FD_SET(0, &input);
		struct timeval wait = patience;
		if (select(1, &input, NULL, NULL, &wait) == 1)
			return;
		churn(MB);
		if (nr_kept < 300 * 1000)
			grow_small(MB / 10);
	}
}

int main(int argc, char **argv)
{
	CHECK(argc >= 2);
	kept = mmap(NULL, 1000 * 1000 * sizeof *kept, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(kept != MAP_FAILED);
	if (strcmp(argv[1], "shares") == 0)
		work((void *)(size_t)30);
	else if (strcmp(argv[1], "leak") == 0) {
		churn(20 * MB);
		grow_small(40 * MB);
		size_t nr_small = nr_kept;
		grow_large(20 * MB);
		while (nr_kept > nr_small)
			free(kept[--nr_kept]);
	} else if (strcmp(argv[1], "threads") == 0)
		threads();
	else if (strcmp(argv[1], "signals") == 0)
		signals();
	else if (strcmp(argv[1], "api") == 0)
		api(argv[2]);
	else if (strcmp(argv[1], "stack") == 0)
		stack(argv[2]);
	else if (strcmp(argv[1], "serve") == 0)
		serve();
	else
		t_fail(__FILE__, __LINE__, "no such mode");
	return 0;
}
