// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The EL1 vector table and the one way in and out of every exception.
//
// Threads run on SP_EL0, so an exception from a thread finds SP_EL1 on this CPU's exception stack whatever the thread did to
// its own stack. An interrupt taken on SP_EL1 nests there. A *fault* taken on SP_EL1 may mean that this very stack is
// gone: it moves to the top of the CPU's crash stack first.
//
// A TrapFrame holds x0-x30, SP, PC (ELR), PSTATE (SPSR), ESR, FAR and a frame record (x29, PC), so that both CFI and a
// plain frame-pointer walk continue in the interrupted code.


// A vector whose stack is good: from a thread, or an interrupt.
.macro vector kind
        .balign 128
        sub     sp, sp, #{FRAME_SIZE}
        stp     x0, x1, [sp]
        mov     x1, #\kind
        b       exception_from_thread
.endm
.macro vector_nested kind
        .balign 128
        sub     sp, sp, #{FRAME_SIZE}
        stp     x0, x1, [sp]
        mov     x1, #\kind
        add     x0, sp, #{FRAME_SIZE}
        b       exception_entry
.endm
// A vector that must not trust SP. TPIDR_EL0 and TPIDRRO_EL0 are scratch: neither kernel has an EL0. A guarded read or a
// semihosting call that failed goes on where it can, without touching any stack: SP would not come back.
.macro vector_fault kind
        .balign 128
        msr     tpidr_el0, x0
        msr     tpidrro_el0, x1
        mrs     x0, elr_el1
        adr     x1, guarded_begin
        sub     x0, x0, x1
        cmp     x0, #(guarded_end - guarded_begin)
        b.lo    guarded_skip
        cmp     x0, #(semihosting_hlt - guarded_begin)
        b.eq    semihosting_skip
        mov     x0, sp
        mrs     x1, tpidr_el1
        ldr     x1, [x1, #{PERCPU_CRASH_STACK_TOP}]
        mov     sp, x1
        sub     sp, sp, #{FRAME_SIZE}
        mrs     x1, tpidr_el0
        str     x1, [sp]
        mrs     x1, tpidrro_el0
        str     x1, [sp, #8]
        mov     x1, #\kind
        b       exception_entry
.endm

.section .text.vectors, "ax"
.balign 2048
.global exception_vectors
exception_vectors:
        vector        0                         // current EL, SP_EL0: synchronous, IRQ, FIQ, SError
        vector        1
        vector        2
        vector        3
        vector_fault  4                         // current EL, SP_EL1
        vector_nested 5
        vector_nested 6
        vector_fault  7
        vector_fault  8                         // lower EL: there is none; said so by the handler
        vector_fault  9
        vector_fault  10
        vector_fault  11
        vector_fault  12
        vector_fault  13
        vector_fault  14
        vector_fault  15

// x0 and x1 of the interrupted code are in TPIDR_EL0 and TPIDRRO_EL0; its flags in SPSR.
guarded_skip:
        adr     x1, guarded_fault
        b       1f
semihosting_skip:
        adr     x1, semihosting_absent
1:      msr     elr_el1, x1
        mrs     x1, tpidrro_el0
        mrs     x0, tpidr_el0
        eret

.type exception_from_thread, %function
exception_from_thread:
        mrs     x0, sp_el0
        // fall through
// x0 = SP of the interrupted code, x1 = kind; x0 and x1 of the interrupted code are at [sp].
.type exception_entry, %function
exception_entry:
.cfi_startproc
.cfi_signal_frame
.cfi_def_cfa sp, 0
        stp     x2, x3, [sp, #16]
        stp     x4, x5, [sp, #32]
        stp     x6, x7, [sp, #48]
        stp     x8, x9, [sp, #64]
        stp     x10, x11, [sp, #80]
        stp     x12, x13, [sp, #96]
        stp     x14, x15, [sp, #112]
        stp     x16, x17, [sp, #128]
        stp     x18, x19, [sp, #144]
        stp     x20, x21, [sp, #160]
        stp     x22, x23, [sp, #176]
        stp     x24, x25, [sp, #192]
        stp     x26, x27, [sp, #208]
        stp     x28, x29, [sp, #224]
        stp     x30, x0, [sp, #240]
        mrs     x2, elr_el1
        mrs     x3, spsr_el1
        stp     x2, x3, [sp, #256]
        mrs     x4, esr_el1
        mrs     x5, far_el1
        stp     x4, x5, [sp, #272]
        stp     x29, x2, [sp, #{FRAME_RECORD}]
.irp reg, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
        .cfi_offset \reg, 8 * \reg
.endr
        .cfi_offset 31, 248
        .cfi_offset 32, 256                     // DWARF register 32 is PC (aadwarf64)
        add     x29, sp, #{FRAME_RECORD}
        // In an interrupt's handler the stop request and SError stay open (decision 5).
        and     x4, x1, #3
        cmp     x4, #1
        b.ne    1f
        msr     daifclr, #5
1:      mov     x0, sp
        bl      {handler}
        msr     daifset, #0xf

        // Back: ELR and SPSR may have been changed by the handler (a guarded read that failed).
        ldp     x2, x3, [sp, #256]
        msr     elr_el1, x2
        msr     spsr_el1, x3
        ldp     x2, x3, [sp, #16]
        ldp     x4, x5, [sp, #32]
        ldp     x6, x7, [sp, #48]
        ldp     x8, x9, [sp, #64]
        ldp     x10, x11, [sp, #80]
        ldp     x12, x13, [sp, #96]
        ldp     x14, x15, [sp, #112]
        ldp     x16, x17, [sp, #128]
        ldp     x18, x19, [sp, #144]
        ldp     x20, x21, [sp, #160]
        ldp     x22, x23, [sp, #176]
        ldp     x24, x25, [sp, #192]
        ldp     x26, x27, [sp, #208]
        ldp     x28, x29, [sp, #224]
        ldr     x30, [sp, #240]
        ldp     x0, x1, [sp]
        add     sp, sp, #{FRAME_SIZE}
        eret
.cfi_endproc
.size exception_entry, . - exception_entry

// ---------------------------------------------------------------------------------------------------------------------
// guarded_copy(to, from, bytes) -> 0, or 1 when a load aborted. bytes is a multiple of 16, both addresses 16-aligned.
// The handler moves ELR from [guarded_begin, guarded_end) to guarded_fault. DSB and ESB inside: a late SError of this page is taken here.
.global guarded_copy
.type guarded_copy, %function
guarded_copy:
.cfi_startproc
        add     x3, x1, x2
guarded_begin:
1:      ldp     x4, x5, [x1], #16
        stp     x4, x5, [x0], #16
        cmp     x1, x3
        b.lo    1b
        dsb     sy
        hint    #16                             // ESB
        isb
        b       guarded_ok
// guarded_is_zero(from, bytes) -> 0: not zero, 1: a load aborted, 2: zero. bytes is a multiple of 64.
.global guarded_is_zero
guarded_is_zero:
        add     x3, x0, x1
2:      ldp     x4, x5, [x0], #16
        ldp     x6, x7, [x0], #16
        ldp     x8, x9, [x0], #16
        ldp     x10, x11, [x0], #16
        orr     x4, x4, x5
        orr     x6, x6, x7
        orr     x8, x8, x9
        orr     x10, x10, x11
        orr     x4, x4, x6
        orr     x8, x8, x10
        orr     x4, x4, x8
        cbnz    x4, 3f
        cmp     x0, x3
        b.lo    2b
        dsb     sy
        hint    #16
        isb
        mov     x0, #2
        ret
3:      dsb     sy
        hint    #16
        isb
guarded_end:
guarded_ok:
        mov     x0, xzr
        ret
guarded_fault:
        mov     x0, #1
        ret
.cfi_endproc
.size guarded_copy, . - guarded_copy

// ---------------------------------------------------------------------------------------------------------------------
// semihosting_call(operation, block) -> result, or -1 when nobody takes the call: HLT is undefined then, and the handler moves
// ELR from semihosting_hlt to semihosting_absent.
.global semihosting_call
.type semihosting_call, %function
semihosting_call:
.cfi_startproc
semihosting_hlt:
        hlt     #0xf000
        ret
semihosting_absent:
        mov     x0, #-1
        ret
.cfi_endproc
.size semihosting_call, . - semihosting_call

// ---------------------------------------------------------------------------------------------------------------------
// capture_registers(to): stores the caller's registers: x0-x30, SP, PC = return address, PSTATE.
.global capture_registers
.type capture_registers, %function
capture_registers:
.cfi_startproc
        stp     x0, x1, [x0]
        stp     x2, x3, [x0, #16]
        stp     x4, x5, [x0, #32]
        stp     x6, x7, [x0, #48]
        stp     x8, x9, [x0, #64]
        stp     x10, x11, [x0, #80]
        stp     x12, x13, [x0, #96]
        stp     x14, x15, [x0, #112]
        stp     x16, x17, [x0, #128]
        stp     x18, x19, [x0, #144]
        stp     x20, x21, [x0, #160]
        stp     x22, x23, [x0, #176]
        stp     x24, x25, [x0, #192]
        stp     x26, x27, [x0, #208]
        stp     x28, x29, [x0, #224]
        mov     x9, sp
        stp     x30, x9, [x0, #240]
        mrs     x10, nzcv
        mrs     x11, daif
        orr     x10, x10, x11
        mrs     x11, CurrentEL
        orr     x10, x10, x11
        mrs     x11, spsel
        orr     x10, x10, x11
        stp     x30, x10, [x0, #256]
        ret
.cfi_endproc
.size capture_registers, . - capture_registers

// call_on_stack(top, function, argument) -> !: runs `function(argument)` on another stack. The frame record written first
// keeps the frame-pointer chain and CFI of the caller.
.global call_on_stack
.type call_on_stack, %function
call_on_stack:
.cfi_startproc
        stp     x29, x30, [x0, #-16]!
        mov     x3, sp
        mov     x29, x0
        mov     sp, x0
        .cfi_def_cfa x29, 16
        .cfi_offset x29, -16
        .cfi_offset x30, -8
        mov     x0, x2
        blr     x1
1:      wfe
        b       1b
.cfi_endproc
.size call_on_stack, . - call_on_stack
