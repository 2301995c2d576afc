/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A hypervisor of a few instructions, for tests: it lies in flash at 0, is entered at EL2 with the MMU off, starts QEMU's own boot
 * stub at the start of RAM at EL1, and answers every hvc by making a virtual SError pending (Arm ARM D1.3.6, HCR_EL2.VSE).
 * Uses no memory. hvc clobbers x16. */
        .equ    HCR_AMO, 1 << 5
        .equ    HCR_VSE, 1 << 8
        .equ    HCR_RW, 1 << 31
        .equ    CPTR_NO_TRAPS, 0x33ff
        .equ    SCTLR_RES1, 0x30d00800
        .equ    SPSR_EL1H_MASKED, 0x3c5
        .equ    BOOT_STUB, 0x40000000
start:
        mov     x0, #HCR_RW
        orr     x0, x0, #HCR_AMO
        msr     hcr_el2, x0
        mov     x0, #3                          // EL1 may use the physical counter and timer
        msr     cnthctl_el2, x0
        msr     cntvoff_el2, xzr
        mov     x0, #CPTR_NO_TRAPS
        msr     cptr_el2, x0
        mrs     x0, midr_el1
        msr     vpidr_el2, x0
        mrs     x0, mpidr_el1
        msr     vmpidr_el2, x0
        ldr     x0, =SCTLR_RES1
        msr     sctlr_el1, x0
        adr     x0, vectors
        msr     vbar_el2, x0
        mov     x0, #SPSR_EL1H_MASKED
        msr     spsr_el2, x0
        mov     x0, #BOOT_STUB
        msr     elr_el2, x0
        mov     x0, xzr
        isb
        eret
        .ltorg

        .balign 0x800
vectors:
        .space  0x400
        mrs     x16, hcr_el2                    // lower level, AArch64, synchronous
        orr     x16, x16, #HCR_VSE
        msr     hcr_el2, x16
        isb
        eret
