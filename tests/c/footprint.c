/* What a small process costs: prints its threads, the dirty private memory that is neither stack nor the program, and
 * all that is resident, also of the library alone.
 * `bytes=N` is allocated and touched before. */
#include "t.h"

int main(int argc, char **argv)
{
	static char line[1024];
	size_t bytes = t_long(argv, "bytes", 1024), dirty = 0;
	char *p = malloc(bytes);
	size_t library = 0;
	int fd, n, counted = 0, is_library = 0;

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
		line[n] = 0;
		n = 0;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, '-') - line < 17)
			counted = !strstr(line, "[stack]") && !strstr(line, "footprint"),
			is_library = !!strstr(line, "libzonal");
		/* Pages of files that were written just now are dirty, too, and no cost. */
		else if (is_library && sscanf(line, "Rss: %lu kB", &kib) == 1)
			library += kib;
		else if (counted && sscanf(line, "Anonymous: %lu kB", &kib) == 1)
			dirty += kib;
	}
	close(fd);
	dprintf(1, "dirty %zu threads %ld resident %ld library %zu\n", dirty,
		t_proc("/proc/self/status", "Threads:"), t_proc("/proc/self/smaps_rollup", "Rss:"), library);
	free(p);
	return 0;
}
