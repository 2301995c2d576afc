// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The EL2 stub and the way out of the crashed kernel. Both are copied into the crash region when it is set up, run there with
// the MMU off (the stub) or from an identity map (the trampoline), and are position independent. Addresses within the copy
// are found relative to the code page: STATE_CONFIG bytes after stub_vectors lies what the kernel configured (region.rs,
// StubConfig), STUB_STATE bytes after it one slot of 256 bytes per CPU: SP_EL2 starts at the slot's end; +0: entry, +8:
// context of a CPU being started, +16: what a CPU without PSCI has come to (PARK_...).
//
// Hypervisor calls from EL1 (x0 = function, may clobber x0-x3):
//   STUB_OPEN        stage 2 off on this CPU            STUB_CLOSE   stage 2 on again
//   STUB_LAST_FAULT  x0 = IPA of the last refused access, x1 = its VA, x2 = how many
//   STUB_JUMP        leave for x1 with x0 = x2 at EL2, everything of ours reset
//   STUB_START       starts a waiting CPU: x1 = its SecondaryArguments, x2 = entry. x0 = 0, or -1 when it does not wait
//   STUB_PARKED      x0 = PARK_... of CPU slot x1
//   STUB_GROUP0      enables Group 0 interrupts on this CPU (EL1 reaches only the virtual register)

.section .text.stub, "ax"
.balign 4096
.global stub_begin
stub_begin:
stub_vectors:
.rept 8
        .balign 128
1:      wfe
        b       1b
.endr
        .balign 128
        b       stub_sync
        .balign 128
1:      wfe                                     // IRQ: IMO is 0, never routed here
        b       1b
        .balign 128
        b       stub_fiq
        .balign 128
1:      wfe                                     // SError: AMO is 0, never routed here
        b       1b
.rept 4
        .balign 128
1:      wfe
        b       1b
.endr
        .balign 128

stub_sync:
        stp     x2, x3, [sp, #-16]!
        stp     x0, x1, [sp, #-16]!
        mrs     x2, esr_el2
        lsr     x3, x2, #26
        cmp     x3, #0x16
        b.eq    stub_hvc
        cmp     x3, #0x17
        b.eq    stub_smc
        cmp     x3, #0x18
        b.eq    stub_sysreg

// A refused access (stage 2), or anything else that came here: reflected to EL1 as an external abort of the same address.
stub_reflect:
        adr     x3, stub_vectors + {STATE_CONFIG}
        mrs     x0, hpfar_el2
        str     x0, [x3, #{CONFIG_LAST_HPFAR}]
        mrs     x0, far_el2
        msr     far_el1, x0
        str     x0, [x3, #{CONFIG_LAST_FAR}]
        ldr     x1, [x3, #{CONFIG_FAULTS}]
        add     x1, x1, #1
        str     x1, [x3, #{CONFIG_FAULTS}]
        // ESR_EL1: EC from lower to current EL (0x24 -> 0x25, 0x20 -> 0x21), WnR kept, DFSC 0x10: synchronous external abort.
        mov     x0, #0x40                       // WnR
        and     x0, x2, x0
        orr     x0, x0, #0x10
        // Anything but an abort becomes EC 0, undefined instruction.
        lsr     x1, x2, #26
        bic     x3, x1, #4                      // 0x20 and 0x24
        cmp     x3, #0x20
        orr     x1, x1, #1
        csel    x1, x1, xzr, eq
        orr     x0, x0, x1, lsl #26
        orr     x0, x0, #(1 << 25)              // IL
        msr     esr_el1, x0
        mrs     x0, elr_el2
        msr     elr_el1, x0
        mrs     x1, spsr_el2
        msr     spsr_el1, x1
        mrs     x0, vbar_el1
        tbz     x1, #0, 1f                      // interrupted on SP_EL0: first group of vectors
        add     x0, x0, #0x200
1:      msr     elr_el2, x0
        mov     x0, #{SPSR_EL1H}
        msr     spsr_el2, x0
        ldp     x0, x1, [sp], #16
        ldp     x2, x3, [sp], #16
        eret

stub_hvc:
        ldp     x0, x1, [sp], #16
        ldp     x2, x3, [sp], #16
        ldr     x3, ={STUB_OPEN}
.irp call, stub_open, stub_close, stub_jump, stub_last_fault, stub_group0, stub_start, stub_parked, stub_park
        cmp     x0, x3                          // in the order of their numbers
        b.eq    \call
        add     x3, x3, #1
.endr
stub_refuse:
        mov     x0, #-1
        eret

stub_parked:
        and     x1, x1, #7
        adr     x3, stub_vectors + {STUB_STATE}
        add     x3, x3, x1, lsl #8
        ldr     x0, [x3, #16]
        mov     x3, xzr
        eret

// A CPU that was stopped at EL1, by IRQ, and has saved what there is to save.
stub_park:
        sub     sp, sp, #32                     // as in stub_fiq: below the top of this CPU's stack
        b       stub_park_here

// As for CPU_ON below: only with this kernel's SecondaryArguments, whose first word is the CPU slot.
stub_start:
        adr     x0, stub_vectors + {STATE_CONFIG}
        ldp     x3, x0, [x0, #{CONFIG_ARGUMENTS}]
        cmp     x1, x3
        ccmp    x1, x0, #2, hs                  // else C is set: out of range
        b.hs    stub_refuse
        ldr     x0, [x1]
        and     x0, x0, #7
        adr     x3, stub_vectors + {STUB_STATE}
        add     x3, x3, x0, lsl #8
        ldr     x0, [x3, #16]
        cmp     x0, #{PARK_WAITING}
        b.ne    stub_refuse
        stp     x2, x1, [x3]
        dmb     sy
        mov     x0, #{PARK_STARTED}
        str     x0, [x3, #16]
        dsb     sy
        sev
        mov     x0, xzr
        mov     x3, xzr
        eret

// A CPU out of a spin table, at EL2 with the MMU off, whose boot loader's loop lies in memory that is not ours: it waits here
// until STUB_START. It knows its slot by its affinity.
.global stub_pen
stub_pen:
        msr     daifset, #0xf
        mrs     x0, CurrentEL
        cmp     x0, #(2 << 2)
        b.ne    3f
        mrs     x0, mpidr_el1
        ldr     x1, ={AFFINITY_MASK}
        and     x0, x0, x1
        adr     x1, stub_vectors + {STATE_CONFIG}
        add     x1, x1, #{CONFIG_AFFINITY}
        mov     x2, xzr
1:      ldr     x3, [x1, x2, lsl #3]
        cmp     x3, x0
        b.eq    2f
        add     x2, x2, #1
        cmp     x2, #{MAX_CPUS}
        b.ne    1b
3:      wfe                                     // no CPU of this kernel's, or not at EL2
        b       3b
2:      adr     x6, stub_vectors + {STUB_STATE}
        add     x6, x6, x2, lsl #8
        mov     x0, #{PARK_WAITING}
        str     x0, [x6, #16]
        dsb     sy
4:      wfe
        ldr     x0, [x6, #16]
        cmp     x0, #{PARK_STARTED}
        b.ne    4b
        mov     x0, x6
        b       stub_secondary

stub_open:
        mrs     x3, hcr_el2
        bic     x3, x3, #1
        b       1f
stub_close:
        mrs     x3, hcr_el2
        orr     x3, x3, #1
1:      msr     hcr_el2, x3
        isb
        tlbi    alle1
        dsb     sy
        isb
        mov     x0, xzr
        eret

stub_group0:
        mov     x0, #1
        msr     S3_0_C12_C12_6, x0              // ICC_IGRPEN0_EL1
        isb
        mov     x0, xzr
        eret

stub_last_fault:
        adr     x3, stub_vectors + {STATE_CONFIG}
        ldr     x0, [x3, #{CONFIG_LAST_HPFAR}]
        ubfx    x0, x0, #4, #40
        lsl     x0, x0, #12                     // IPA, page
        ldr     x1, [x3, #{CONFIG_LAST_FAR}]
        ldr     x2, [x3, #{CONFIG_FAULTS}]
        mov     x3, xzr
        eret

// EL2 as the boot contract wants it, then the capture kernel. The MMU at EL1 is off already; EL2's never was on.
stub_jump:
        mov     x4, x1
        mov     x5, x2
        msr     hcr_el2, xzr
        isb
        // With FMO set EL1 could not reach these: Group 0 off, no active priority left.
        mrs     x0, id_aa64pfr0_el1
        ubfx    x0, x0, #24, #4
        cbz     x0, 1f
        msr     S3_0_C12_C12_6, xzr             // ICC_IGRPEN0_EL1
        msr     S3_0_C12_C8_4, xzr              // ICC_AP0R0_EL1
1:      msr     vttbr_el2, xzr
        msr     vtcr_el2, xzr
        mov     x0, #{CPTR_EL2_NO_TRAPS}
        msr     cptr_el2, x0
        msr     vbar_el2, xzr
        tlbi    alle1
        tlbi    alle2
        ic      iallu
        dsb     sy
        isb
        mov     x0, x5
        mov     x1, xzr
        mov     x2, xzr
        mov     x3, xzr
        br      x4

// A trapped SMC (HCR_EL2.TSC). CPU_ON is redirected so that the new CPU starts in the stub; all else goes on as it is.
stub_smc:
        ldp     x0, x1, [sp]
        // The calls that would enter kernel code at EL2 are not supported: CPU_ON of SMC32, both CPU_SUSPEND and SYSTEM_SUSPEND.
        ldr     x2, ={PSCI_CPU_ON_32}
        cmp     w0, w2
        b.eq    3f
        sub     w2, w2, #2                      // CPU_SUSPEND
        bic     w3, w0, #(1 << 30)              // the SMC64 form differs in this bit
        cmp     w3, w2
        b.eq    3f
        add     w2, w2, #0xd                    // SYSTEM_SUSPEND
        cmp     w3, w2
        b.eq    3f
        ldr     x2, ={PSCI_CPU_ON}
        cmp     w0, w2
        ldp     x2, x3, [sp, #16]
        b.ne    1f
        // x1 target, x2 entry, x3 context = SecondaryArguments of this kernel, whose first word is the CPU slot.
        adr     x0, stub_vectors + {STATE_CONFIG}
        ldp     x2, x0, [x0, #{CONFIG_ARGUMENTS}]
        cmp     x3, x2
        ccmp    x3, x0, #2, hs                  // else C is set: out of range
        b.hs    3f
        ldr     x2, [sp, #16]
        ldr     x0, [x3]
        and     x0, x0, #7
        lsl     x0, x0, #8
        stp     x4, x5, [sp, #-16]!
        adr     x4, stub_vectors + {STUB_STATE}
        add     x4, x4, x0
        stp     x2, x3, [x4]
        dsb     sy
        mov     x3, x4
        adr     x2, stub_secondary
        ldr     x0, ={PSCI_CPU_ON}
        smc     #0
        ldp     x4, x5, [sp], #16
        b       2f
3:      mov     x0, #-1                         // NOT_SUPPORTED
        ldp     x2, x3, [sp, #16]
        b       2f
1:      smc     #0
2:      add     sp, sp, #32
        stp     x0, x1, [sp, #-16]!
        mrs     x0, elr_el2
        add     x0, x0, #4                      // a trapped SMC returns to itself
        msr     elr_el2, x0
        ldp     x0, x1, [sp], #16
        eret

// A CPU started by PSCI, at EL2. x0 = its state slot.
stub_secondary:
        msr     daifset, #0xf
        mov     x6, x0
        adr     x0, stub_vectors
        msr     vbar_el2, x0
        mov     x0, #{HCR_EL2_RW}
        msr     hcr_el2, x0
        isb
        el2_setup
        adr     x7, stub_vectors + {STATE_CONFIG}
        ldr     x0, [x7, #{CONFIG_VTTBR}]
        msr     vttbr_el2, x0
        ldr     x0, [x7, #{CONFIG_VTCR}]
        msr     vtcr_el2, x0
        add     x0, x6, #0x100
        mov     sp, x0
        isb
        ldr     x0, ={HCR_EL2_STUB}
        msr     hcr_el2, x0
        tlbi    alle1
        dsb     sy
        isb
        mov     x0, #{SPSR_EL1H}
        msr     spsr_el2, x0
        ldp     x1, x0, [x6]
        msr     elr_el2, x1
        mov     x1, xzr
        mov     x2, xzr
        mov     x3, xzr
        isb
        eret

// With FMO set, writes of the SGI registers from EL1 trap: they are done here. Anything else is reflected.
stub_sysreg:
        ubfx    x3, x2, #0, #22
        // ISS of a write (bit 0 = 0) to op0 3, op1 0, CRn 12, CRm 11: Op0 21:20, Op2 19:17, Op1 16:14, CRn 13:10, Rt 9:5, CRm 4:1.
        ldr     x0, =0x31fc1f                   // all but Op2 and Rt
        and     x0, x3, x0
        ldr     x1, =0x303016
        cmp     x0, x1
        b.ne    stub_reflect
        ubfx    x1, x3, #5, #5                  // Rt
        adr     x0, 3f
        add     x0, x0, x1, lsl #3
        br      x0
3:      ldr     x0, [sp]
        b       4f
        ldr     x0, [sp, #8]
        b       4f
        ldr     x0, [sp, #16]
        b       4f
        ldr     x0, [sp, #24]
        b       4f
.irp reg, 4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
        mov     x0, x\reg
        b       4f
.endr
        mov     x0, xzr
4:      ubfx    x1, x3, #17, #3                 // Op2: 5 SGI1R, 6 ASGI1R, 7 SGI0R
        cmp     x1, #5
        b.eq    5f
        cmp     x1, #7
        b.ne    stub_reflect
        msr     S3_0_C12_C11_7, x0
        b       6f
5:      msr     S3_0_C12_C11_5, x0
6:      isb
        mrs     x0, elr_el2
        add     x0, x0, #4
        msr     elr_el2, x0
        ldp     x0, x1, [sp], #16
        ldp     x2, x3, [sp], #16
        eret

// The stop request: a Group-0 SGI, whatever the CPU's DAIF says. Saves the interrupted registers, and EL1's system registers
// and floating-point state, into this CPU's stop frame in kernel RAM (MMU off: non-cacheable; the reader invalidates first) and turns the CPU off.
stub_fiq:
        stp     x2, x3, [sp, #-16]!
        stp     x0, x1, [sp, #-16]!
        adr     x3, stub_vectors + {STATE_CONFIG}
        ldr     x0, [x3, #{CONFIG_LOCAL}]
        cbnz    x0, 7f
        ldr     x0, [x3, #{CONFIG_GICC}]
        cbz     x0, 1f
        ldr     w1, [x0, #0xc]                  // GICC_IAR
        str     w1, [x0, #0x10]                 // GICC_EOIR
        b       2f
1:      mrs     x1, S3_0_C12_C8_0               // ICC_IAR0_EL1
        msr     S3_0_C12_C8_1, x1               // ICC_EOIR0_EL1
        isb
2:      and     x1, x1, #0x3ff
        ldr     x0, [x3, #{CONFIG_STOP_INTID}]
        cmp     x0, x1
        b.eq    3f
        ldp     x0, x1, [sp], #16
        ldp     x2, x3, [sp], #16
        eret
7:      mrs     x1, mpidr_el1                   // this core's mailbox 0 of a BCM2836 (bcm2836.rs)
        and     x1, x1, #3
        add     x0, x0, x1, lsl #4
        ldr     w1, [x0, #{BCM2836_MAILBOX_CLEAR}]
        str     w1, [x0, #{BCM2836_MAILBOX_CLEAR}]
        dsb     sy
        cbnz    w1, 3f
        ldp     x0, x1, [sp], #16
        ldp     x2, x3, [sp], #16
        eret
3:      // Slot number from SP_EL2.
        adr     x0, stub_vectors + {STUB_STATE}
        mov     x1, sp
        sub     x1, x1, x0
        lsr     x1, x1, #8
        ldr     x2, [x3, #{CONFIG_STOP_FRAMES}]
        mov     x0, #{STOP_FRAME_SIZE}
        madd    x2, x1, x0, x2
        ldp     x0, x1, [sp]
        stp     x0, x1, [x2]
        ldp     x0, x1, [sp, #16]
        stp     x0, x1, [x2, #16]
        stp     x4, x5, [x2, #32]
        stp     x6, x7, [x2, #48]
        stp     x8, x9, [x2, #64]
        stp     x10, x11, [x2, #80]
        stp     x12, x13, [x2, #96]
        stp     x14, x15, [x2, #112]
        stp     x16, x17, [x2, #128]
        stp     x18, x19, [x2, #144]
        stp     x20, x21, [x2, #160]
        stp     x22, x23, [x2, #176]
        stp     x24, x25, [x2, #192]
        stp     x26, x27, [x2, #208]
        stp     x28, x29, [x2, #224]
        mrs     x0, sp_el0
        mrs     x1, sp_el1
        mrs     x4, spsr_el2
        tst     x4, #1
        csel    x5, x0, x1, eq
        stp     x30, x5, [x2, #240]
        mrs     x5, elr_el2
        stp     x5, x4, [x2, #256]
        mov     x6, x2
        add     x2, x2, #{STOP_FRAME_SYSTEM}
        stp     x0, x1, [x2], #16               // SP_EL0, SP_EL1
        save_system_registers
        mrs     x0, cpacr_el1
        tbz     x0, #20, 5f                     // FPEN: no floating point at EL1
        add     x0, x6, #{STOP_FRAME_FP}
        save_fp_registers
5:      mov     x2, x6
        ldr     x0, [x3, #{CONFIG_GICD}]
        cbz     x0, 6f
        str     wzr, [x0, #{GICD_IGROUPR}]      // this CPU's own interrupts as at reset (gic/quiesce.rs)
6:      dmb     sy
        mov     x4, #{STOPPED_AT_EL2}
        str     x4, [x2, #{STOP_FRAME_STATUS}]
        dsb     sy
        ldr     x0, [x3, #{CONFIG_HAS_PSCI}]
        cbz     x0, 4f
        ldr     x0, ={PSCI_CPU_OFF}
        smc     #0
4:      // No PSCI, or it refused: parked here, in the crash region. Nothing wakes this CPU: its timers are off, its mailbox is empty.
stub_park_here:
        msr     cntv_ctl_el0, xzr
        msr     cntp_ctl_el0, xzr
        adr     x0, stub_vectors + {STUB_STATE}
        mov     x1, sp
        sub     x1, x1, x0
        lsr     x1, x1, #8
        add     x0, x0, x1, lsl #8
        mov     x1, #{PARK_STOPPED}
        str     x1, [x0, #16]
        dsb     sy
8:      wfi
        b       8b
.ltorg
.global stub_end
stub_end:

// ---------------------------------------------------------------------------------------------------------------------
// trampoline(x0 = DTB, x1 = entry, x2 = 1 when the stub is there): entered at its physical address through the identity
// map. Turns MMU and caches off and leaves.
.balign 64
.global trampoline_begin
trampoline_begin:
        msr     daifset, #0xf
        mrs     x3, sctlr_el1
        mov     x4, #0x1005                     // M, C, I
        bic     x3, x3, x4
        bic     x3, x3, #(1 << 19)              // WXN
        msr     sctlr_el1, x3
        isb
        tlbi    vmalle1
        ic      iallu
        dsb     nsh
        isb
        cbz     x2, 1f
        mov     x2, x0
        ldr     x0, ={STUB_JUMP}
        hvc     #0
1:      mov     x5, x1
        mov     x1, xzr
        mov     x2, xzr
        mov     x3, xzr
        br      x5
.ltorg
.global trampoline_end
trampoline_end:
