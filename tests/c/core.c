/* Leaves a core dump whose heap holds markers: `core` prints nothing and aborts. The markers are built at run time, so
 * that only the heap holds them in full. */
#include "t.h"
#include <sys/prctl.h>

int main(void)
{
	static const size_t sizes[] = { 64, 3000, 40000, 3000000, 50000000 };

	for (int i = 0; i < 5; i++) {
		char *p = malloc(sizes[i]);

		CHECK(p);
		memset(p, 'x', sizes[i]);
		memcpy(p + 32, "HEAP", 4);
		memcpy(p + 36, "MARKER", 6);
		p[42] = '0' + i;
		HIDE(p);
	}
	abort();
}
