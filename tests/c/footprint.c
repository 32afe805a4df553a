/* What a small process costs: prints its threads, the dirty private memory that is neither stack nor the program, and
 * all that is resident.
 * `bytes=N` is allocated and touched before. */
#include "t.h"

int main(int argc, char **argv)
{
	static char line[1024];
	size_t bytes = t_long(argv, "bytes", 1024), dirty = 0;
	char *p = malloc(bytes);
	int fd, n, counted = 0;

	(void)argc;
	memset(p, 1, bytes);
	HIDE(p);
	/* By raw reads, a line at a time: stdio would allocate. */
	CHECK((fd = open("/proc/self/smaps", O_RDONLY)) >= 0);
	for (n = 0; read(fd, line + n, 1) == 1;) {
		unsigned long from, to, kib;

		if (line[n] != '\n') {
			if (n < (int)sizeof line - 2)
				n++;
			continue;
		}
		line[n] = n = 0;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, '-') - line < 17)
			counted = !strstr(line, "[stack]") && !strstr(line, "footprint");
		else if (counted && sscanf(line, "Private_Dirty: %lu kB", &kib) == 1)
			dirty += kib;
	}
	close(fd);
	CHECK((fd = open("/proc/self/status", O_RDONLY)) >= 0);
	static char status[8192];
	CHECK(read(fd, status, sizeof status - 1) > 0);
	close(fd);
	CHECK((fd = open("/proc/self/smaps_rollup", O_RDONLY)) >= 0);
	static char rollup[4096];
	CHECK(read(fd, rollup, sizeof rollup - 1) > 0);
	close(fd);
	dprintf(1, "dirty %zu threads %d resident %d\n", dirty, atoi(strstr(status, "Threads:") + 8),
		atoi(strstr(rollup, "Rss:") + 4));
	free(p);
	return 0;
}
