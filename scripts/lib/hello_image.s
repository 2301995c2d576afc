// SPDX-License-Identifier: MIT OR Apache-2.0
// The smallest capture Image: prints one line on QEMU virt's PL011 and stops. For scripts/linux-guest --self-test.
//
// Entered as booting.rst says: x0 = DTB, MMU off. Uses x1 to x3; keeps nothing, returns nowhere.

.set PL011, 0x09000000
.set PL011_DR, 0x00
.set PL011_FR, 0x18
.set PL011_FR_TXFF_BIT, 5
.set IMAGE_SIZE, 0x1000

.text
image_begin:
    b       entry
    nop
    .quad   0               // text_offset
    .quad   IMAGE_SIZE
    .quad   0xa             // little-endian, 4 KiB pages, placed anywhere
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .word   0

entry:
    msr     daifset, #0xf
    mov     x1, #PL011
    adr     x2, line
1:  ldrb    w3, [x2], #1
    cbz     w3, 3f
2:  ldr     w4, [x1, #PL011_FR]
    tbnz    w4, #PL011_FR_TXFF_BIT, 2b
    str     w3, [x1, #PL011_DR]
    b       1b
3:  wfi
    b       3b

line:
    .asciz  "\r\nhello from the capture Image\r\n"
    .balign IMAGE_SIZE
