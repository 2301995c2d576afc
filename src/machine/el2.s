// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What EL2 is set to before EL1 runs under it: used at boot (boot.s) and for CPUs that the stub starts (stub.s).
// HCR_EL2 is written first by the caller: with a VHE hand-over (Linux) every name below means something else until E2H is 0.
// Clobbers x0-x3.
.macro el2_setup
        ldr     x0, ={SCTLR_EL2_OFF}
        msr     sctlr_el2, x0
        isb
        mov     x0, #3                          // EL1 may read the counters and use the physical timer
        msr     cnthctl_el2, x0
        msr     cntvoff_el2, xzr
        msr     cnthp_ctl_el2, xzr
        mov     x0, #{CPTR_EL2_NO_TRAPS}
        msr     cptr_el2, x0
        msr     hstr_el2, xzr
        mrs     x0, midr_el1
        msr     vpidr_el2, x0
        mrs     x0, mpidr_el1
        msr     vmpidr_el2, x0
        // MDCR_EL2: no traps; all counters belong to EL1.
        mov     x1, xzr
        mrs     x0, id_aa64dfr0_el1
        ubfx    x0, x0, #8, #4                  // PMUVer
        cbz     x0, 3f
        cmp     x0, #0xf
        b.eq    3f
        mrs     x1, pmcr_el0
        ubfx    x1, x1, #11, #5
3:      msr     mdcr_el2, x1
        mrs     x0, id_aa64pfr0_el1
        ubfx    x0, x0, #24, #4
        cbz     x0, 4f
        mrs     x0, S3_4_C12_C9_5               // ICC_SRE_EL2: system registers on, EL1 may use them
        mov     x1, #9
        orr     x0, x0, x1
        msr     S3_4_C12_C9_5, x0
        isb
        msr     S3_4_C12_C11_0, xzr             // ICH_HCR_EL2: no virtual interface
        mov     x0, #0xff
        msr     S3_0_C4_C6_0, x0                // ICC_PMR_EL1: once FMO is set, EL1 only reaches a virtual one
4:
        ldr     x0, ={SCTLR_EL1_OFF}
        msr     sctlr_el1, x0
        isb
.endm
