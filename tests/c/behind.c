/* Another allocator, behind the one that is tested. Nobody must come here. */
#include <stddef.h>
#include <unistd.h>

static void *not_here(void)
{
	static const char text[] = "a call came to the allocator behind\n";

	_exit(write(2, text, sizeof text - 1) > 0 ? 9 : 8);
}

void *malloc(size_t size) { return not_here(); }
void *calloc(size_t count, size_t size) { return not_here(); }
void *realloc(void *object, size_t size) { return not_here(); }
void *aligned_alloc(size_t align, size_t size) { return not_here(); }
void free(void *object) { not_here(); }
void *_Znwm(size_t size) { return not_here(); }
void *_Znam(size_t size) { return not_here(); }
void *_ZnwmRKSt9nothrow_t(size_t size, void *tag) { return not_here(); }
void *_ZnamRKSt9nothrow_t(size_t size, void *tag) { return not_here(); }
void *_ZnwmSt11align_val_t(size_t size, size_t align) { return not_here(); }
void _ZdlPv(void *object) { not_here(); }
void _ZdaPv(void *object) { not_here(); }
void _ZdlPvm(void *object, size_t size) { not_here(); }
