/* The least program that allocates. */
#include <stdlib.h>

int main(void)
{
	void *volatile p = malloc(1000);

	free(p);
	return p == NULL;
}
