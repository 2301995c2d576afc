// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What EL2 is set to before EL1 runs under it: used at boot (boot.s) and for CPUs that the stub starts (stub.s).
// HCR_EL2 is written first by the caller: with a VHE hand-over (Linux) every name below means something else until E2H is 0.
// Clobbers x0-x3.

// Statistical profiling and trace buffers write to memory on their own (E33): off, where they are and are ours to program.
// At EL2, or at EL1 when there is nothing above. Clobbers x0, x1.
.macro quiet_profiling
        mrs     x1, id_aa64dfr0_el1
        ubfx    x0, x1, #32, #4                 // PMSVer
        cbz     x0, 6f
        mrs     x0, S3_0_C9_C10_7               // PMBIDR_EL1.P: another exception level owns it
        tbnz    x0, #4, 6f
        msr     S3_0_C9_C9_0, xzr               // PMSCR_EL1
        isb
        hint    #17                             // PSB CSYNC
        dsb     nsh
        msr     S3_0_C9_C10_0, xzr              // PMBLIMITR_EL1
        isb
6:      ubfx    x0, x1, #44, #4                 // TraceBuffer
        cbz     x0, 7f
        mrs     x0, S3_0_C9_C11_7               // TRBIDR_EL1.P, as above
        tbnz    x0, #4, 7f
        msr     S3_0_C1_C2_1, xzr               // TRFCR_EL1
        isb
        hint    #18                             // TSB CSYNC
        dsb     nsh
        msr     S3_0_C9_C11_0, xzr              // TRBLIMITR_EL1
        isb
7:
.endm

.macro el2_setup
        quiet_profiling
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
        mrs     x1, id_aa64mmfr1_el1
        ubfx    x0, x1, #8, #4                  // VH: a timer of its own, and what Linux left in it
        cbz     x0, 1f
        msr     S3_4_C14_C3_1, xzr              // CNTHV_CTL_EL2
1:      ubfx    x0, x1, #40, #4                 // HCX
        cbz     x0, 2f
        msr     S3_4_C1_C2_2, xzr               // HCRX_EL2
2:      mrs     x0, id_aa64mmfr0_el1
        ubfx    x0, x0, #56, #4                 // FGT: no fine-grained traps
        cbz     x0, 2f
        msr     S3_4_C1_C1_4, xzr               // HFGRTR_EL2, HFGWTR_EL2, HFGITR_EL2, HDFGRTR_EL2, HDFGWTR_EL2
        msr     S3_4_C1_C1_5, xzr
        msr     S3_4_C1_C1_6, xzr
        msr     S3_4_C3_C1_4, xzr
        msr     S3_4_C3_C1_5, xzr
2:
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
