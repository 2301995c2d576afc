// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Code and data for provoked crashes (provoke.rs).


// A function's code in a writable, not executable page. It carries CFI so that debuggers find its caller through x30.
.section .data.provoke, "aw"
.balign 16
.global lkdtm_data_area
.type lkdtm_data_area, %function
lkdtm_data_area:
.cfi_startproc
        nop
        ret
.cfi_endproc
.size lkdtm_data_area, . - lkdtm_data_area

.section .text.provoke, "ax"
// An exclusive load that is not aligned: an alignment fault whatever SCTLR_EL1.A says.
.global lkdtm_unaligned_exclusive
.type lkdtm_unaligned_exclusive, %function
lkdtm_unaligned_exclusive:
.cfi_startproc
        add     x0, x0, #1
        ldxr    x1, [x0]
        ret
.cfi_endproc
.size lkdtm_unaligned_exclusive, . - lkdtm_unaligned_exclusive

// Overwrites its own frame record and returns through it, as a stack overrun would.
.global lkdtm_corrupt_stack
.type lkdtm_corrupt_stack, %function
lkdtm_corrupt_stack:
.cfi_startproc
        stp     x29, x30, [sp, #-16]!
        .cfi_def_cfa_offset 16
        .cfi_offset x29, -16
        .cfi_offset x30, -8
        mov     x29, sp
        ldr     x0, =0x4141414141414140
        stp     x0, x0, [sp]
        ldp     x29, x30, [sp], #16
        .cfi_def_cfa_offset 0
        .cfi_restore x29
        .cfi_restore x30
        ret
.cfi_endproc
.size lkdtm_corrupt_stack, . - lkdtm_corrupt_stack

// lkdtm_pattern(seed, mask_all) -> !: loads x0-x30 and SP with values that follow from the seed and spins: register n
// holds seed + n. With mask_all != 0 all of DAIF is masked. SP is loaded with seed + 0x100, 16-byte aligned by the caller's seed.
.global lkdtm_pattern
.type lkdtm_pattern, %function
lkdtm_pattern:
.cfi_startproc
        cbz     x1, 1f
        msr     daifset, #0xf
1:      add     x2, x0, #0x100
        mov     sp, x2
.irp reg, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
        add     x\reg, x0, #\reg
.endr
.global lkdtm_pattern_spin
lkdtm_pattern_spin:
2:      b       2b
.cfi_endproc
.size lkdtm_pattern, . - lkdtm_pattern

// lkdtm_fp_pattern(seed): enables floating point at EL1 and fills V0 to V31: both halves of Vn hold seed + n. FPCR gets FZ, FPSR IXC.
.global lkdtm_fp_pattern
.type lkdtm_fp_pattern, %function
lkdtm_fp_pattern:
.cfi_startproc
        mrs     x1, cpacr_el1
        orr     x1, x1, #(3 << 20)
        msr     cpacr_el1, x1
        isb
.arch_extension fp
.arch_extension simd
.irp number, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        add     x1, x0, #\number
        dup     v\number\().2d, x1
.endr
        mov     x1, #(1 << 24)
        msr     fpcr, x1
        mov     x1, #(1 << 4)
        msr     fpsr, x1
.arch_extension nosimd
.arch_extension nofp
        ret
.cfi_endproc
.size lkdtm_fp_pattern, . - lkdtm_fp_pattern
