/* So many MiB in objects of that size, alive when the process ends. */
#include "t.h"

int main(int argc, char **argv)
{
	size_t size = t_long(argv, "size", 16), left = MIB(t_long(argv, "mib", 256)) / size;
	void **last = NULL;

	(void)argc;
	for (; left > 0; left--) {
		void **object = malloc(size);

		CHECK(object);
		memset(object, 1, size);
		*object = last;
		last = object;
	}
	HIDE(last);
	return 0;
}
