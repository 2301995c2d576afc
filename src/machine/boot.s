// SPDX-License-Identifier: MIT OR Apache-2.0
//
// From the boot loader's jump to Rust at the link address, for the first CPU and for secondaries.
//
// Documentation/arch/arm64/booting.rst is the contract: x0 = DTB (physical), x1-x3 = 0, DAIF masked, MMU off, EL2 or EL1.
// An ELF loader may also leave the CPU at EL3. All code here is position independent until the MMU is on.
//
// Registers kept from entry to the jump into Rust:
//   x19  DTB physical address         x20  exception level at entry (1, 2 or 3)
//   x21  physical address of image    x22  this CPU's stack unit top (virtual)
//   x23  CPU slot (0 for the first)
// On exit: EL1t, MMU and caches on, SP_EL0 = thread stack, SP_EL1 = exception stack, DAIF masked.

.section .head, "ax"
.global _start
_start:
        b       primary_entry                   // code0
        .long   0                               // code1
        .quad   0                               // text_offset
        .quad   image_size                      // image_size, BSS and stacks included
        .quad   {IMAGE_FLAGS}                   // little-endian, 4 KiB pages, anywhere
        .quad   0
        .quad   0
        .quad   0
        .ascii  "ARM\x64"
        .long   0

.section .text.boot, "ax"
.balign 4
primary_entry:
        msr     daifset, #0xf
        mov     x19, x0
        mov     x23, xzr
        // An ELF boot under secure=on starts every CPU here: the others wait, one CPU is enough there.
        mrs     x0, mpidr_el1
        mrs     x1, CurrentEL
        cmp     x1, #(3 << 2)
        b.ne    0f
        and     x1, x0, #0xff
        ubfx    x2, x0, #8, #16
        orr     x1, x1, x2
        ubfx    x2, x0, #32, #8
        orr     x1, x1, x2
        cbz     x1, 0f
1:      wfi
        b       1b
0:
        bl      enter_el1
        adrp    x21, _start

        // Zero BSS (the early tables lie in it). The cache may hold stale lines of it: they are invalidated after.
        // In the page before its first byte may lie what survives a restart.
        adrp    x0, bss_begin
        add     x0, x0, #:lo12:bss_begin
        adrp    x1, bss_end
        mov     x2, x0
2:      stp     xzr, xzr, [x2], #16
        cmp     x2, x1
        b.lo    2b
        // Initialised data as it was loaded is kept in BSS, for a restart and for loading this image again.
        adrp    x3, data_begin
        adrp    x4, data_copy_begin
        add     x4, x4, #:lo12:data_copy_begin
        adrp    x5, data_loaded_end
        add     x5, x5, #:lo12:data_loaded_end
        b       4f
3:      ldp     x6, x7, [x3], #16
        stp     x6, x7, [x4], #16
4:      cmp     x3, x5
        b.lo    3b
        bl      invalidate_range
        // The stacks are written with the MMU on; stale dirty lines of them must not come back later.
        adrp    x0, stacks_begin
        adrp    x1, stacks_end
        bl      invalidate_range
        // The image itself was cleaned to PoC by whoever loaded it; drop clean lines that may be stale.
        bl      build_early_tables

        adrp    x0, early_l0_high
        bl      enable_mmu
        ldr     x22, =first_stack_top
        ldr     x0, =start_on_stack
        br      x0

// In: x22 = top of this CPU's stack unit. Runs at the link address.
.type start_on_stack, %function
start_on_stack:
.cfi_startproc
.cfi_undefined x30                              // outermost frame
        mov     sp, x22                         // crash stack top; the exception stack lies below it
        sub     x0, x22, #({CRASH_STACK} + {GUARD})
        mov     sp, x0                          // SP_EL1
        sub     x0, x0, #{EXCEPTION_STACK}
        sub     x0, x0, #{GUARD}
        msr     spsel, #0
        mov     sp, x0                          // SP_EL0
        ldr     x0, =exception_vectors
        msr     vbar_el1, x0
        isb
        mov     x29, xzr
        mov     x30, xzr
        mov     x0, x19
        mov     x1, x20
        mov     x2, x21
        cbnz    x23, 1f
        bl      {primary_rust}
1:      mov     x0, x23
        bl      {secondary_rust}
2:      wfe
        b       2b
.cfi_endproc
.size start_on_stack, . - start_on_stack

// A secondary CPU, started by PSCI CPU_ON. x0 = physical address of its SecondaryArguments.
.global secondary_entry
secondary_entry:
        msr     daifset, #0xf
        mov     x19, x0
        bl      enter_el1
        adrp    x21, _start
        ldr     x23, [x19, #{SECONDARY_SLOT}]
        ldr     x22, [x19, #{SECONDARY_STACK_TOP}]
        ldr     x0, [x19, #{SECONDARY_TABLES}]
        bl      enable_mmu
        ldr     x0, =start_on_stack
        br      x0

// A secondary CPU out of a spin table, which tells it nothing: it finds its SecondaryArguments by its affinity.
.global spin_table_entry
spin_table_entry:
        msr     daifset, #0xf
        mrs     x0, mpidr_el1
        ldr     x1, ={AFFINITY_MASK}
        and     x0, x0, x1
        adrp    x1, {spin_table_arguments}
        add     x1, x1, #:lo12:{spin_table_arguments}
        mov     x2, #{MAX_CPUS}
1:      ldp     x3, x4, [x1], #16
        cmp     x3, x0
        ccmp    x4, #0, #4, eq                  // Z unless it is this CPU's and there are arguments
        b.ne    2f
        subs    x2, x2, #1
        b.ne    1b
3:      wfe                                     // nobody asked for this CPU
        b       3b
2:      mov     x0, x4
        b       secondary_entry

// ---------------------------------------------------------------------------------------------------------------------
// Drops to EL1h from wherever the CPU was entered. Returns to the caller at EL1. Sets x20. Clobbers x0-x5.
enter_el1:
        mov     x5, x30
        mrs     x0, CurrentEL
        lsr     x20, x0, #2
        cmp     x20, #3
        b.eq    from_el3
        cmp     x20, #2
        b.eq    from_el2
        // Entered at EL1: only what the contract leaves open is set.
        msr     spsel, #1
        ldr     x0, ={SCTLR_EL1_OFF}
        msr     sctlr_el1, x0
        isb
        quiet_profiling
        bl      quiet_el1
        ret     x5

from_el3:
        // Non-secure, AArch64 below, HVC on. SMC stays on: it reaches the small monitor below.
        mov     x0, #{SCR_EL3}
        msr     scr_el3, x0
        msr     cptr_el3, xzr
        adr     x0, monitor_vectors
        msr     vbar_el3, x0
        mrs     x0, id_aa64pfr0_el1
        ubfx    x1, x0, #24, #4                 // GIC system registers
        cbz     x1, 1f
        mov     x1, #0xf
        msr     S3_6_C12_C12_5, x1              // ICC_SRE_EL3
        isb
        msr     S3_0_C4_C6_0, xzr               // ICC_PMR_EL1 is set by the driver
1:      isb
        ubfx    x1, x0, #8, #4                  // EL2 implemented?
        cbz     x1, 2f
        mov     x1, #{SPSR_EL2H}
        msr     spsr_el3, x1
        adr     x1, from_el2
        msr     elr_el3, x1
        isb
        eret
2:      mov     x1, #{SPSR_EL1H}
        msr     spsr_el3, x1
        adr     x1, at_el1
        msr     elr_el3, x1
        ldr     x0, ={SCTLR_EL1_OFF}
        msr     sctlr_el1, x0
        isb
        eret

from_el2:
        // E2H and TGE first: with a VHE hand-over (Linux) every name below means something else until they are 0.
        mov     x0, #{HCR_EL2_RW}
        msr     hcr_el2, x0
        isb
        el2_setup
        msr     vttbr_el2, xzr
        adr     x0, early_el2_vectors
        msr     vbar_el2, x0
        msr     sp_el1, xzr
        mov     x0, #{SPSR_EL1H}
        msr     spsr_el2, x0
        adr     x0, at_el1
        msr     elr_el2, x0
        isb
        eret

at_el1: bl      quiet_el1
        ret     x5

// What a crashed kernel may have left armed at EL1: timers, debug, the PMU, FP traps, alignment of TPIDRs.
quiet_el1:
        msr     cntv_ctl_el0, xzr
        msr     cntp_ctl_el0, xzr
        msr     cntkctl_el1, xzr
        msr     mdscr_el1, xzr
        msr     dbgbcr0_el1, xzr                // MDSCR.MDE alone would do; the first ones are what a debugger uses
        msr     dbgwcr0_el1, xzr
        msr     cpacr_el1, xzr
        msr     contextidr_el1, xzr
        msr     tpidr_el1, xzr
        mrs     x0, id_aa64dfr0_el1
        ubfx    x0, x0, #8, #4
        cbz     x0, 1f
        cmp     x0, #0xf
        b.eq    1f
        msr     pmcr_el0, xzr
        mov     x0, #0xffffffff
        msr     pmcntenclr_el0, x0
        msr     pmintenclr_el1, x0
        msr     pmovsclr_el0, x0
        msr     pmuserenr_el0, xzr
1:      isb
        ret

// ---------------------------------------------------------------------------------------------------------------------
// Invalidates [x0, x1) to PoC by VA (MMU off: by PA). Clobbers x0, x2, x3.
invalidate_range:
        dmb     sy                              // stores with the MMU off come before the maintenance of their lines
        mrs     x2, ctr_el0
        ubfx    x2, x2, #16, #4
        mov     x3, #4
        lsl     x2, x3, x2
1:      dc      ivac, x0
        add     x0, x0, x2
        cmp     x0, x1
        b.lo    1b
        dsb     sy
        ret

// ---------------------------------------------------------------------------------------------------------------------
// Maps the image at its link address (TTBR1) and at its physical address (TTBR0), in 2 MiB blocks. x21 = physical address of the image. Clobbers x0-x9.
build_early_tables:
        mov     x9, x30
        ldr     x7, =image_size + 0x1fffff      // blocks of 2 MiB, rounded up
        lsr     x7, x7, #21

        // TTBR1: the link address, all permissions until Rust has built the real tables.
        ldr     x8, ={BLOCK_NORMAL_RWX}
        orr     x8, x8, x21
        ldr     x6, =image_begin
        adrp    x0, early_l0_high
        adrp    x1, early_l1_high
        adrp    x2, early_l2_high
        bl      fill_three_levels
        // TTBR0: identity, read-only, so that it also works under WXN when secondaries use it.
        ldr     x8, ={BLOCK_NORMAL_RX}
        orr     x8, x8, x21
        mov     x6, x21
        adrp    x0, early_l0_low
        adrp    x1, early_l1_low
        adrp    x2, early_l2_low
        bl      fill_three_levels

        adrp    x0, early_tables_begin
        adrp    x1, early_tables_end
        bl      invalidate_range
        ret     x9

// x0, x1, x2: physical L0, L1, L2 tables; x6: virtual base; x7: blocks; x8: first block descriptor. Clobbers x3-x5.
fill_three_levels:
        ubfx    x3, x6, #39, #9
        orr     x4, x1, #3
        str     x4, [x0, x3, lsl #3]
        ubfx    x3, x6, #30, #9
        orr     x4, x2, #3
        str     x4, [x1, x3, lsl #3]
        ubfx    x3, x6, #21, #9
        mov     x4, x8
        mov     x5, x7
1:      cmp     x3, #512                        // an image across a 1 GiB boundary maps up to it: the rest is unmapped
        b.hs    2f
        str     x4, [x2, x3, lsl #3]
        add     x3, x3, #1
        add     x4, x4, #(1 << 21)
        subs    x5, x5, #1
        b.ne    1b
2:      ret

// ---------------------------------------------------------------------------------------------------------------------
// x0 = physical TTBR1 root. TTBR0 gets the early identity map. Returns with the MMU and caches on. Clobbers x0-x3.
enable_mmu:
        adrp    x1, early_l0_low
        msr     ttbr0_el1, x1
        msr     ttbr1_el1, x0
        ldr     x0, ={MAIR}
        msr     mair_el1, x0
        ldr     x0, ={TCR}
        mrs     x1, id_aa64mmfr0_el1
        and     x1, x1, #0xf                    // PARange; 48 bits are the most that 4 KiB pages use here
        cmp     x1, #5
        mov     x2, #5
        csel    x1, x1, x2, ls
        orr     x0, x0, x1, lsl #32
        msr     tcr_el1, x0
        ic      iallu
        tlbi    vmalle1
        dsb     nsh
        isb
        ldr     x0, ={SCTLR_EL1_ON}
        msr     sctlr_el1, x0
        isb
        ret

// ---------------------------------------------------------------------------------------------------------------------
// Replaces TTBR1 while running from the identity map: walks through TTBR1 are off in between (break-before-make).
// Called at its physical address with x0 = new root, x30 = return address at the link address. Clobbers x1, x2.
.global switch_ttbr1
switch_ttbr1:
        mrs     x1, tcr_el1
        orr     x2, x1, #(1 << 23)              // EPD1
        msr     tcr_el1, x2
        isb
        tlbi    vmalle1
        dsb     nsh
        isb
        msr     ttbr1_el1, x0
        isb
        msr     tcr_el1, x1
        isb
        ret

// ---------------------------------------------------------------------------------------------------------------------
// restart_image(x0 = DTB): entered at its physical address, in the early identity map. Turns MMU and caches off and enters the image.
.global restart_image
restart_image:
        msr     daifset, #0xf
        mrs     x1, sctlr_el1
        mov     x2, #0x1005                     // M, C, I
        bic     x1, x1, x2
        msr     sctlr_el1, x1
        isb
        tlbi    vmalle1
        ic      iallu
        dsb     nsh
        isb
        mov     x1, xzr
        mov     x2, xzr
        mov     x3, xzr
        b       _start

// ---------------------------------------------------------------------------------------------------------------------
// EL2 until the stub is installed, and in the capture kernel: one service for EL1, STUB_INSTALL.
// x0 = function, x1 = vectors, x2 = stage-2 root, x3 = SP_EL2, x4 = VTCR_EL2; all physical. Returns x0 = 0, or -1 for anything else.
.balign 2048
early_el2_vectors:
.rept 8
        .balign 128
1:      wfe
        b       1b
.endr
        .balign 128
        b       early_el2_call
.rept 7
        .balign 128
1:      wfe
        b       1b
.endr
        .balign 128
early_el2_call:
        ldr     x9, ={STUB_INSTALL}
        cmp     x0, x9
        b.ne    1f
        msr     vbar_el2, x1
        msr     vttbr_el2, x2
        msr     vtcr_el2, x4
        mov     sp, x3
        isb
        ldr     x9, ={HCR_EL2_STUB}
        msr     hcr_el2, x9
        tlbi    alle1
        dsb     sy
        isb
        mov     x0, xzr
        eret
1:      mov     x0, #-1
        eret

// ---------------------------------------------------------------------------------------------------------------------
// EL3 (an ELF boot under secure=on, no firmware): one service, SMC from below with x0 = MONITOR_SET_GROUPS,
// x1 = distributor, x2 = number of IGROUPR words, x3 = redistributor SGI frame or 0, x4 = GICv2 CPU interface or 0:
// hands every interrupt to the non-secure side (Group 1). Everything else returns NOT_SUPPORTED, as SMCCC says.
.balign 2048
monitor_vectors:
.rept 8
        .balign 128
1:      wfe
        b       1b
.endr
        .balign 128
        b       monitor_call                    // lower EL, AArch64, synchronous
.rept 7
        .balign 128
1:      wfe
        b       1b
.endr
        .balign 128
monitor_call:
        ldr     w9, ={MONITOR_SET_GROUPS}
        cmp     w0, w9
        b.ne    3f
        mov     w9, #0xffffffff
        add     x10, x1, #0x80                  // GICD_IGROUPR0
1:      cbz     x2, 2f
        str     w9, [x10], #4
        sub     x2, x2, #1
        b       1b
2:      cbz     x3, 4f
        str     w9, [x3, #0x80]                 // GICR_IGROUPR0
4:      cbz     x4, 5f
        mov     w9, #0xff
        str     w9, [x4, #4]                    // GICC_PMR: the non-secure side may use the whole range
5:      dsb     sy
        mov     x0, xzr
        eret
3:      mov     x0, #-1
        eret

.section .bss.early_tables, "aw", %nobits
.global early_l0_low
.balign 4096
early_tables_begin:
early_l0_high: .skip 4096
early_l1_high: .skip 4096
early_l2_high: .skip 4096
early_l0_low:  .skip 4096                      // global: machine::restart
early_l1_low:  .skip 4096
early_l2_low:  .skip 4096
early_tables_end:
