/* stats HOW COUNT SIZE: holds COUNT blocks of SIZE bytes in the way named by HOW, then writes one
 * line of JSON (the report), one line "anonymous BYTES" (the kernel's word), and one "asked BYTES".
 *
 * touched    all bytes are written
 * untouched  none is
 * sparse     every second block is freed again
 * freed      all are freed again
 * threads    four threads share the work and stay
 * wait       as touched; then waits for the end of its input before anything is written
 * fork       as wait; a forked child prints its number and waits, too
 * late       as untouched; prints its number, touches all when a line comes, and waits */
#include "t.h"
#include <dlfcn.h>

static int (*print)(int fd, int format);
static void **blocks;
static size_t count, size;
static pthread_barrier_t built, done;

static void build(size_t from, size_t to, int touch)
{
	for (size_t i = from; i < to; i++) {
		blocks[i] = malloc(size);
		CHECK(blocks[i]);
		if (touch)
			memset(blocks[i], 0x5a, size);
	}
}

static void *worker(void *number)
{
	size_t share = count / 4, from = (size_t)number * share;

	build(from, from + share, 1);
	pthread_barrier_wait(&built);
	pthread_barrier_wait(&done);
	return NULL;
}

static size_t anonymous(void)
{
	return t_proc("/proc/self/smaps_rollup", "\nAnonymous:") * 1024;
}

static void wait_for_end(void)
{
	char byte;

	while (read(0, &byte, 1) > 0)
		;
}

int main(int argc, char **argv)
{
	const char *how = argv[1];
	pthread_t threads[4];
	size_t asked;

	CHECK(argc == 4);
	count = strtoul(argv[2], NULL, 10);
	size = strtoul(argv[3], NULL, 10);
	asked = count * size;
	print = dlsym(RTLD_DEFAULT, "zonal_stats_print");
	CHECK(print);
	blocks = mmap(NULL, count * sizeof *blocks, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(blocks != MAP_FAILED);

	if (!strcmp(how, "threads")) {
		pthread_barrier_init(&built, NULL, 5);
		pthread_barrier_init(&done, NULL, 5);
		for (size_t i = 0; i < 4; i++)
			CHECK(!pthread_create(&threads[i], NULL, worker, (void *)i));
		pthread_barrier_wait(&built);
		asked = count / 4 * 4 * size;
	} else {
		build(0, count, strcmp(how, "untouched") && strcmp(how, "late"));
	}
	if (!strcmp(how, "sparse")) {
		for (size_t i = 0; i < count; i += 2)
			free(blocks[i]);
		asked = count / 2 * size;
	}
	if (!strcmp(how, "freed")) {
		for (size_t i = 0; i < count; i++)
			free(blocks[i]);
		asked = 0;
	}
	if (!strcmp(how, "late")) {
		char byte;

		dprintf(1, "%d\n", (int)getpid());
		CHECK(read(0, &byte, 1) == 1);
		for (size_t i = 0; i < count; i++)
			memset(blocks[i], 0x5a, size);
		dprintf(1, "touched\n");
		wait_for_end();
		return 0;
	}
	if (!strcmp(how, "wait") || !strcmp(how, "fork")) {
		pid_t child = strcmp(how, "fork") ? 1 : fork();

		CHECK(child >= 0);
		if (child == 0) {
			/* Enough slow paths for a first publication. */
			for (int i = 0; i < 64; i++)
				CHECK(malloc(100000));
		}
		dprintf(1, "%d\n", (int)getpid());
		wait_for_end();
		return 0;
	}
	CHECK(!print(1, 1));
	dprintf(1, "anonymous %zu\nasked %zu\n", anonymous(), asked);
	if (!strcmp(how, "threads"))
		pthread_barrier_wait(&done);
	return 0;
}
