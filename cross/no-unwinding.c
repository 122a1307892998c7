/* Stands in for the library that walks the stack. The tables that it would read are left out (no-unwinding.ld), so
   there is nothing to walk: a panic says where it was and ends the process. Weak, so that a compiler which needs more
   of the library than this gets all of it. */

#define WEAK __attribute__((weak))

/* "End of stack", whoever asks. */
WEAK int _Unwind_Backtrace(void *step, void *argument)
{
    (void)step;
    (void)argument;
    return 5;
}

/* What would be asked about a step, and there is none. */
#define NOTHING(name) WEAK unsigned long name(void) { return 0; }
NOTHING(_Unwind_FindEnclosingFunction)
NOTHING(_Unwind_GetCFA)
NOTHING(_Unwind_GetDataRelBase)
NOTHING(_Unwind_GetIP)
NOTHING(_Unwind_GetIPInfo)
NOTHING(_Unwind_GetLanguageSpecificData)
NOTHING(_Unwind_GetRegionStart)
NOTHING(_Unwind_GetTextRelBase)
NOTHING(_Unwind_SetGR)
NOTHING(_Unwind_SetIP)
NOTHING(_Unwind_VRS_Get)
NOTHING(_Unwind_VRS_Set)
