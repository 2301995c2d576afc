// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the notes of a dump say of the machine, judged by gdb, by QEMU's gdbstub and by its monitor.

use blackbox::{Entry, Machine, Running, backtrace, host, oracle, symbols};
use serde_json::Value;

const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";
/// Both halves of Vn, minus n (`lkdtm=FP`).
const PATTERN: u64 = 0x5a5a_0000_c0de_0000;
/// Registers whose values the gdbstub shows too, and which neither the crash path nor the exception changes; as the architecture
/// names them, and QEMU.
const COMPARED: [(&str, &str); 12] = [
    ("SCTLR_EL1", "SCTLR"),
    ("CPACR_EL1", "CPACR"),
    ("TTBR1_EL1", "TTBR1_EL1"),
    ("TCR_EL1", "TCR_EL1"),
    ("ESR_EL1", "ESR_EL1"),
    ("FAR_EL1", "FAR_EL1"),
    ("ELR_EL1", "ELR_EL1"),
    ("SPSR_EL1", "SPSR_EL1"),
    ("MAIR_EL1", "MAIR_EL1"),
    ("VBAR_EL1", "VBAR"),
    ("CNTFRQ_EL0", "CNTFRQ_EL0"),
    ("TPIDR_EL1", "TPIDR_EL1"),
];

/// System registers of `cpu`, by `info`.
fn sysregs(info: &Value, cpu: u64) -> &Value {
    let all = info["sysregs"].as_array().expect("sysregs");
    let of_cpu = all.iter().find(|entry| entry["cpu"] == cpu);
    &of_cpu.unwrap_or_else(|| panic!("CPU {cpu} in {all:?}"))["values"]
}

#[test]
fn system_registers_of_the_crashing_cpu_are_those_at_the_exception_vector() {
    for (entry, gic, cpu) in [(Entry::El1, 2, "cortex-a72"), (Entry::El2, 3, "max")] {
        let machine = Machine::new().entry(entry).gic(gic).cpu(cpu);
        let machine = machine.append("lkdtm=ACCESS_NULL@4000 dump_then=halt dump_rounds=1");
        let (running, mut gdb) = oracle::stop_at_vector(machine);
        let wanted = COMPARED.map(|(_, name)| gdb.system_register(name));
        gdb.go_on();
        let crashed = oracle::finish(running);
        let info = host::info(&crashed.dump.path);
        let found = sysregs(&info, 0);
        for ((name, _), wanted) in COMPARED.iter().zip(wanted) {
            assert_eq!(
                found[name].as_u64(),
                Some(wanted),
                "{name}: dump, gdbstub; {entry:?}"
            );
        }
        assert!(
            found["PMCR_EL0"].as_u64().is_some(),
            "QEMU's CPUs have a PMU"
        );
    }
}

#[test]
fn every_cpu_that_stopped_has_system_registers() {
    for (entry, gic) in [
        (Entry::El1, 2),
        (Entry::El1, 3),
        (Entry::El2, 2),
        (Entry::El2, 3),
    ] {
        let machine = Machine::new().cpus(4).entry(entry).gic(gic);
        let crashed = oracle::crash(machine.append("lkdtm=PANIC@150 lkdtm_cpu=2"));
        let info = host::info(&crashed.dump.path);
        let vectors = symbols::address_of(&oracle::elf(), "exception_vectors");
        let root = sysregs(&info, 2)["TTBR1_EL1"].as_u64();
        for cpu in 0..4 {
            let of_cpu = sysregs(&info, cpu);
            let values = ["VBAR_EL1", "TTBR1_EL1"].map(|name| of_cpu[name].as_u64());
            assert_eq!(
                values,
                [Some(vectors), root],
                "CPU {cpu}, {entry:?}, GICv{gic}"
            );
            let affinity = of_cpu["MPIDR_EL1"].as_u64().expect("a number");
            assert_eq!(affinity & 0xff_ffff, cpu, "{entry:?}, GICv{gic}");
        }
    }
}

/// Asserts that gdb shows the pattern in the floating-point registers of thread `pid`.
fn gdb_shows_the_pattern(crashed: &oracle::Crashed, pid: u32) {
    // gdb numbers threads as the notes come: the crashed CPU is 1, the other follows.
    let is_crashed = pid == crashed.dump.registers()[0].pid;
    let select = if is_crashed { "thread 1" } else { "thread 2" };
    let commands = [
        select,
        "p/x $v0.d.u",
        "p/x $v31.d.u",
        "p/x $fpcr",
        "p/x $fpsr",
    ];
    let text = backtrace::gdb(&crashed.dump.path, &oracle::elf(), &commands);
    assert!(text.contains(&format!("LWP {pid}")), "{text}");
    for number in [0, 31] {
        let half = format!("{:#x}", PATTERN + number);
        let shown = format!("[{half}, {half}]");
        assert!(text.contains(&shown), "V{number} {shown} in:\n{text}");
    }
    assert!(
        text.contains("= 0x1000000\n") && text.contains("= 0x10\n"),
        "FPCR and FPSR in:\n{text}"
    );
}

#[test]
fn floating_point_registers_of_the_crashing_cpu_are_in_the_dump_where_enabled() {
    let crashed = oracle::crash(Machine::new().append("lkdtm=FP@100"));
    gdb_shows_the_pattern(&crashed, 1);
    let info = host::info(&crashed.dump.path);
    assert_eq!(info["fp"][0]["pid"], 1);
    assert_eq!(info["fp"][0]["fpcr"], 1 << 24);
}

fn fp_of_a_stopped_cpu(machine: Machine) -> oracle::Crashed {
    let machine = machine
        .cpus(2)
        .entry(Entry::El2)
        .append("lkdtm=FP_MASKED@150 lkdtm_cpu=1 dump_then=halt dump_rounds=1");
    let running: Running = machine.start();
    running
        .console
        .wait_for("lkdtm: floating-point registers are filled");
    running.console.send(SYSRQ_CRASH);
    oracle::finish(running)
}

#[test]
fn floating_point_registers_of_a_cpu_that_the_stub_stopped_are_in_the_dump() {
    for (gic, cpu) in [(2, "cortex-a72"), (3, "max")] {
        let crashed = fp_of_a_stopped_cpu(Machine::new().gic(gic).cpu(cpu));
        gdb_shows_the_pattern(&crashed, 2);
        let info = host::info(&crashed.dump.path);
        assert_eq!(info["fp"].as_array().map(Vec::len), Some(1), "CPU 1 only");
    }
}

#[test]
fn floating_point_registers_are_not_written_where_they_were_not_enabled() {
    let crashed = oracle::crash(Machine::new().cpus(2).append("lkdtm=PANIC@150"));
    /// NT_FPREGSET.
    const FPREGSET: u32 = 2;
    let of_fp = crashed.dump.notes.iter().find(|note| note.kind == FPREGSET);
    assert!(of_fp.is_none(), "{of_fp:?}");
}

#[test]
fn phases_of_the_crash_path_are_all_there_and_in_order() {
    let crashed = oracle::crash(Machine::new().cpus(2).append("lkdtm=PANIC@150"));
    let info = host::info(&crashed.dump.path);
    let timings = info["timings"].as_array().expect("timings");
    let phases: Vec<&str> = timings
        .iter()
        .filter_map(|timing| timing["phase"].as_str())
        .collect();
    assert_eq!(
        phases,
        [
            "fault",
            "won",
            "stopped",
            "notes",
            "quiesced",
            "verified",
            "jump",
            "capture-entry",
            "first-frame",
            "last-frame"
        ]
    );
}

/// GICv2 distributor, and GICv3's (hw/arm/virt.c).
const GICD: u64 = 0x0800_0000;

#[test]
fn interrupts_enabled_at_the_crash_are_those_that_qemu_knows() {
    for gic in [2, 3] {
        let mut running = Machine::new()
            .gic(gic)
            .append("dump_then=halt dump_rounds=1")
            .start();
        running.console.wait_for("idle, with");
        // ISENABLER1 and 2, while it still runs.
        let enabled: Vec<u32> = [1, 2]
            .iter()
            .map(|word| running.read_physical_word(GICD + 0x100 + 4 * word))
            .collect();
        running.console.send(SYSRQ_CRASH);
        let crashed = oracle::finish(running);
        let info = host::info(&crashed.dump.path);
        assert_eq!(info["interrupts"]["version"], gic);
        let all = info["interrupts"]["interrupts"].as_array().expect("a list");
        let shared: Vec<u64> = all
            .iter()
            .filter(|one| one["enabled"] == true && one["cpu"].is_null())
            .filter_map(|one| one["number"].as_u64())
            .collect();
        let wanted: Vec<u64> = (0..64)
            .filter(|bit| enabled[bit / 32] >> (bit % 32) & 1 != 0)
            .map(|bit| bit as u64 + 32)
            .collect();
        assert!(!wanted.is_empty(), "the console's interrupt");
        assert_eq!(shared, wanted, "GICv{gic}: dump, QEMU");
        let names = info["interrupts"]["registers"].as_array().expect("a list");
        let pmr = if gic == 2 { "GICC_PMR" } else { "ICC_PMR_EL1" };
        assert!(names.iter().any(|one| one["name"] == pmr), "{names:?}");
    }
}

#[test]
fn page_that_a_stray_write_made_writable_is_reported() {
    for entry in [Entry::El1, Entry::El2] {
        let machine = Machine::new().entry(entry);
        let crashed = oracle::crash(machine.append("lkdtm=CORRUPT_PGTABLE@100"));
        let info = host::info(&crashed.dump.path);
        let tables = &info["page_tables"];
        assert_eq!(tables["wrong_count"], 1, "{tables}");
        let wrong = &tables["wrong"][0];
        assert_eq!(
            [&wrong["fault"], &wrong["bytes"]],
            [&Value::from("attributes"), &Value::from(4096)]
        );
        // AP[2], and nothing else.
        let [found, wanted] = ["found", "wanted"].map(|name| wrong[name].as_u64().expect(name));
        assert_eq!((found ^ wanted) & !3, 1 << 7, "{found:#x}, {wanted:#x}");
        let va = wrong["va"].as_u64().expect("an address");
        let told = crashed.running.console.transcript();
        assert!(told.contains(&format!("page tables: {va:#x}")), "{told}");
        let rodata = info["reason"]["text"].as_str().expect("a text");
        assert!(rodata.contains(&format!("{va:x}")), "{rodata} names {va:x}");
    }
}

#[test]
fn page_tables_that_nobody_wrote_to_are_right() {
    for (entry, gic, cpus) in [(Entry::El1, 2, 1), (Entry::El2, 3, 8), (Entry::El1, 3, 4)] {
        let machine = Machine::new().entry(entry).gic(gic).cpus(cpus);
        let crashed = oracle::crash(machine.append("lkdtm=PANIC@150"));
        let tables = &host::info(&crashed.dump.path)["page_tables"];
        assert_eq!(tables["wrong_count"], 0, "{entry:?}: {tables}");
        assert_eq!(tables["checked_whole"], true);
    }
}
