#![no_std]
#![no_main]
use machine::boot::EntryState;
machine::entry!(main);
fn main(entry: EntryState) -> ! {
    let mut space = machine::mmu::AddressSpace::take(entry.image).unwrap();
    let uart = machine::console::ConsoleUart::map_pl011(&mut space, 0x0900_0000).unwrap();
    uart.install(None);
    machine::emergency!("Hello from {:?}\n", entry);
    let (a,b)=space.table_use();
    machine::emergency!("tables {a}/{b} {:?}\n", machine::mmu::image_bounds());
    machine::arch::unmask_serror_and_stop();
    let p = machine::layout::LINEAR_BASE as *const u64;
    let x = unsafe { p.read_volatile() };
    machine::emergency!("{x}");
    machine::arch::halt()
}
#[panic_handler]
fn panic(i: &core::panic::PanicInfo) -> ! {
    machine::emergency!("{i}\n");
    machine::arch::halt()
}
