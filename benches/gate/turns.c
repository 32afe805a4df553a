/* Blocks of 64 KiB to 64 MiB, one after the other, each touched and freed, for benches/gate.py: once warm they
 * cost no page fault and no system call.
 *
 *   turns ROUNDS     of all sizes; prints the faults of those after the first twenty
 *
 * Those twenty take half a second, since memory grows cold by the clock: what the first ones left where nobody
 * uses it goes back, once, and the blocks settle on what stays. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static const size_t sizes[] = { 64, 100, 256, 512, 1024, 2048, 3072, 4096, 5120, 8192, 16384, 32768, 65536 };

static void rounds(long left)
{
	for (; left > 0; left--) {
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			size_t size = sizes[i] << 10;
			volatile char *block = malloc(size);

			for (size_t at = 0; at < size; at += 4096)
				block[at] = 1;
			free((void *)block);
		}
	}
}

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

int main(int argc, char **argv)
{
	for (int i = 0; i < 20; i++) {
		rounds(1);
		usleep(25000);
	}
	long before = faults();

	rounds(argc > 1 ? strtol(argv[1], NULL, 10) : 0);
	fprintf(stderr, "page_faults %ld\n", faults() - before);
	return 0;
}
