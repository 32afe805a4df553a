/* A C program that asks zonal for a report, gives cold memory back, and runs without zonal too.
 *
 *   cc report.c -o report                 runs with and without the preload
 *   cc report.c -o report -lzonal         always runs on zonal
 *
 * The functions of zonal.h are weak here: null when the library is not loaded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zonal.h>

#pragma weak zonal_stats_print
#pragma weak zonal_reclaim
#pragma weak zonal_version

enum { COUNT = 2000, SIZE = 10000 };

int main(void)
{
	static char *blocks[COUNT];

	for (int i = 0; i < COUNT; i++) {
		blocks[i] = malloc(SIZE);
		if (!blocks[i])
			return 1;
		memset(blocks[i], 1, SIZE);
	}
	for (int i = 0; i < COUNT; i++)
		free(blocks[i]);

	if (!zonal_version) {
		puts("without zonal");
		return 0;
	}
	printf("zonal %s\n", zonal_version());
	size_t given_back = zonal_reclaim((size_t)-1);
	printf("%zu KiB given back\n", given_back >> 10);
	fflush(stdout);
	return zonal_stats_print(STDOUT_FILENO, ZONAL_FORMAT_TEXT) ? 1 : 0;
}
