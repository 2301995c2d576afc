// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Saving a CPU's system registers and floating-point state (system_registers.rs). The macros serve EL1 and the stub at EL2.

// Stores registers from [x2] on, in the order of system_registers.rs; those of the PMU come last and only where there is one.
// Clobbers x0, x2.
.macro save_system_registers
.irp register, midr_el1, mpidr_el1, revidr_el1, id_aa64pfr0_el1, id_aa64pfr1_el1, id_aa64dfr0_el1, id_aa64isar0_el1, id_aa64isar1_el1, id_aa64mmfr0_el1, id_aa64mmfr1_el1, S3_0_C0_C7_2, ctr_el0, clidr_el1, csselr_el1
        mrs     x0, \register
        str     x0, [x2], #8
.endr
.irp register, sctlr_el1, actlr_el1, cpacr_el1, ttbr0_el1, ttbr1_el1, tcr_el1, spsr_el1, elr_el1, afsr0_el1, afsr1_el1, esr_el1, far_el1, par_el1, mair_el1, amair_el1, vbar_el1, isr_el1, contextidr_el1, tpidr_el1, tpidr_el0, tpidrro_el0
        mrs     x0, \register
        str     x0, [x2], #8
.endr
.irp register, cntkctl_el1, cntfrq_el0, cntpct_el0, cntvct_el0, cntp_ctl_el0, cntp_cval_el0, cntv_ctl_el0, cntv_cval_el0, mdscr_el1, oslsr_el1
        mrs     x0, \register
        str     x0, [x2], #8
.endr
        mrs     x0, id_aa64dfr0_el1
        ubfx    x0, x0, #8, #4                  // PMUVer: 0 none, 0xf not the architecture's
        cbz     x0, 8f
        cmp     x0, #0xf
        b.eq    8f
.irp register, pmcr_el0, pmcntenset_el0, pmovsset_el0, pmselr_el0, pmccntr_el0, pmuserenr_el0, pmintenset_el1
        mrs     x0, \register
        str     x0, [x2], #8
.endr
8:
.endm

// Stores V0 to V31, FPSR, FPCR and a 1 from [x0] on; FP must be enabled. Clobbers x1.
.macro save_fp_registers
.arch_extension fp
.arch_extension simd
        stp     q0, q1, [x0]
        stp     q2, q3, [x0, #32]
        stp     q4, q5, [x0, #64]
        stp     q6, q7, [x0, #96]
        stp     q8, q9, [x0, #128]
        stp     q10, q11, [x0, #160]
        stp     q12, q13, [x0, #192]
        stp     q14, q15, [x0, #224]
        stp     q16, q17, [x0, #256]
        stp     q18, q19, [x0, #288]
        stp     q20, q21, [x0, #320]
        stp     q22, q23, [x0, #352]
        stp     q24, q25, [x0, #384]
        stp     q26, q27, [x0, #416]
        stp     q28, q29, [x0, #448]
        stp     q30, q31, [x0, #480]
        mrs     x1, fpsr
        str     x1, [x0, #512]
        mrs     x1, fpcr
        str     x1, [x0, #520]
.arch_extension nosimd
.arch_extension nofp
        mov     x1, #1
        str     x1, [x0, #528]
.endm

.section .text.system_registers, "ax"
// system_registers_save(to): SP_EL0, SP_EL1, then as the macro says. At EL1.
.global system_registers_save
.type system_registers_save, %function
system_registers_save:
.cfi_startproc
        mov     x2, x0
        mrs     x3, daif
        msr     daifset, #0xf                   // no exception may find the other stack pointer in use
        mrs     x1, spsel
        msr     spsel, #0
        mov     x0, sp
        msr     spsel, #1
        mov     x4, sp
        msr     spsel, x1
        msr     daif, x3
        stp     x0, x4, [x2], #16
        save_system_registers
        ret
.cfi_endproc
.size system_registers_save, . - system_registers_save

// fp_registers_save(to): nothing where EL1 may not use floating point (CPACR_EL1.FPEN).
.global fp_registers_save
.type fp_registers_save, %function
fp_registers_save:
.cfi_startproc
        mrs     x1, cpacr_el1
        tbz     x1, #20, 1f
        save_fp_registers
1:      ret
.cfi_endproc
.size fp_registers_save, . - fp_registers_save
