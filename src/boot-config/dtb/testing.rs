// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blobs for the tests: built here, or by `dtc` from text.

use std::io::Write;
use std::process::{Command, Stdio};
use std::string::{String, ToString};
use std::vec::Vec;

/// Builds a blob token by token, so that tests can build what `dtc` refuses.
pub(crate) struct Blob {
    reservations: Vec<(u64, u64)>,
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Blob {
    /// Begins a blob with an open root node.
    pub(crate) fn new() -> Self {
        let blob = Self {
            reservations: Vec::new(),
            structure: Vec::new(),
            strings: Vec::new(),
        };
        blob.begin("")
    }

    pub(crate) fn reserve(mut self, address: u64, size: u64) -> Self {
        self.reservations.push((address, size));
        self
    }

    pub(crate) fn token(mut self, token: u32) -> Self {
        self.structure.extend(token.to_be_bytes());
        self
    }

    pub(crate) fn begin(self, name: &str) -> Self {
        let mut blob = self.token(1);
        blob.structure.extend(name.bytes().chain([0]));
        blob.pad()
    }

    pub(crate) fn end(self) -> Self {
        self.token(2)
    }

    pub(crate) fn bytes(mut self, name: &str, value: &[u8]) -> Self {
        let offset = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        let mut blob = self.token(3).token(value.len() as u32).token(offset);
        blob.structure.extend(value);
        blob.pad()
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        let value: Vec<u8> = value.bytes().chain([0]).collect();
        self.bytes(name, &value)
    }

    pub(crate) fn cells(self, name: &str, cells: &[u32]) -> Self {
        let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &value)
    }

    /// Sets the root's cells to 2 and 2, as on most arm64 boards.
    pub(crate) fn two_cells(self) -> Self {
        self.cells("#address-cells", &[2])
            .cells("#size-cells", &[2])
    }

    pub(crate) fn memory(self, start: u64, len: u64) -> Self {
        let name = std::format!("memory@{start:x}");
        let high = |value: u64| (value >> 32) as u32;
        self.begin(&name)
            .text("device_type", "memory")
            .cells("reg", &[high(start), start as u32, high(len), len as u32])
            .end()
    }

    fn pad(mut self) -> Self {
        self.structure
            .resize(self.structure.len().next_multiple_of(4), 0);
        self
    }

    /// Ends the root and the structure block.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.end().token(9).assemble()
    }

    /// Puts the blocks together as they are.
    pub(crate) fn assemble(self) -> Vec<u8> {
        let mut reservations = Vec::new();
        for (address, size) in self.reservations.iter().chain(&[(0, 0)]) {
            reservations.extend(address.to_be_bytes());
            reservations.extend(size.to_be_bytes());
        }
        let structure = 40 + reservations.len();
        let strings = structure + self.structure.len();
        let total = strings + self.strings.len();
        let header = [
            0xd00d_feed,
            total as u32,
            structure as u32,
            strings as u32,
            40,
            17,
            16,
            0,
            self.strings.len() as u32,
            self.structure.len() as u32,
        ];
        let header: Vec<u8> = header
            .iter()
            .flat_map(|word: &u32| word.to_be_bytes())
            .collect();
        [header, reservations, self.structure, self.strings].concat()
    }
}

/// Runs `dtc` on `input`; returns what it writes and what it warns of.
pub(crate) fn dtc(from: &str, to: &str, input: &[u8]) -> (Vec<u8>, String) {
    let mut child = Command::new("dtc")
        .args(["-I", from, "-O", to, "-o", "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dtc runs (package device-tree-compiler)");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input)
        .expect("dtc reads its input");
    let output = child.wait_with_output().expect("dtc ends");
    let warnings = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(output.status.success(), "dtc: {warnings}");
    (output.stdout, warnings)
}

/// A board like QEMU's `virt` with GICv2, as text.
pub(crate) const VIRT: &str = r#"/dts-v1/;
/memreserve/ 0x40000000 0x1000;
/ {
    #address-cells = <2>;
    #size-cells = <2>;
    interrupt-parent = <&gic>;
    model = "linux,dummy-virt";
    compatible = "linux,dummy-virt";
    chosen {
        stdout-path = "/pl011@9000000";
        bootargs = "crashkernel=2M lkdtm=PANIC";
        rng-seed = <1 2>;
        kaslr-seed = <3 4>;
        linux,initrd-start = <0x48000000>;
        linux,initrd-end = <0x48100000>;
    };
    aliases { serial0 = "/pl011@9000000"; };
    psci { compatible = "arm,psci-1.0", "arm,psci-0.2", "arm,psci"; method = "hvc"; };
    memory@40000000 { device_type = "memory"; reg = <0 0x40000000 0 0x8000000>; };
    cpus {
        #address-cells = <1>;
        #size-cells = <0>;
        cpu@0 { device_type = "cpu"; compatible = "arm,cortex-a53"; reg = <0>; enable-method = "psci"; };
        cpu@1 { device_type = "cpu"; compatible = "arm,cortex-a53"; reg = <1>; enable-method = "psci"; };
    };
    timer {
        compatible = "arm,armv8-timer", "arm,armv7-timer";
        interrupts = <1 13 0x104>, <1 14 0x104>, <1 11 0x104>, <1 10 0x104>;
    };
    clk: apb-pclk { compatible = "fixed-clock"; #clock-cells = <0>; clock-frequency = <24000000>; };
    gic: intc@8000000 {
        compatible = "arm,cortex-a15-gic";
        #interrupt-cells = <3>;
        #address-cells = <2>;
        #size-cells = <2>;
        interrupt-controller;
        ranges;
        reg = <0 0x8000000 0 0x10000>, <0 0x8010000 0 0x10000>;
        v2m@8020000 { compatible = "arm,gic-v2m-frame"; msi-controller; reg = <0 0x8020000 0 0x1000>; };
    };
    pl011@9000000 {
        compatible = "arm,pl011", "arm,primecell";
        reg = <0 0x9000000 0 0x1000>;
        interrupts = <0 1 4>;
        clocks = <&clk>, <&clk>;
        clock-names = "uartclk", "apb_pclk";
    };
};
"#;

/// A board like the Raspberry Pi 4, as text: a bus that translates, spin tables, a console by alias with options.
pub(crate) const PI: &str = r#"/dts-v1/;
/memreserve/ 0x0 0x1000;
/ {
    #address-cells = <2>;
    #size-cells = <1>;
    interrupt-parent = <&gic>;
    model = "Raspberry Pi 4 Model B";
    compatible = "raspberrypi,4-model-b", "brcm,bcm2711";
    aliases { serial0 = "/soc/serial@7e201000"; };
    chosen { stdout-path = "serial0:115200n8"; bootargs = "a=b"; };
    memory@0 { device_type = "memory"; reg = <0 0 0x3c000000>, <0 0x40000000 0x80000000>; };
    memory@100000000 { device_type = "memory"; reg = <1 0 0x80000000>, <1 0x80000000 0x80000000>; };
    reserved-memory {
        #address-cells = <2>;
        #size-cells = <1>;
        ranges;
        linux,cma { compatible = "shared-dma-pool"; size = <0x4000000>; reusable; };
        nvram@1000000 { reg = <0 0x1000000 0x1000>; no-map; };
    };
    cpus {
        #address-cells = <1>;
        #size-cells = <0>;
        cpu@0 { device_type = "cpu"; reg = <0>; enable-method = "spin-table"; cpu-release-addr = <0 0xd8>; };
        cpu@1 { device_type = "cpu"; reg = <1>; enable-method = "spin-table"; cpu-release-addr = <0 0xe0>; };
        cpu@2 { device_type = "cpu"; reg = <2>; status = "disabled"; };
    };
    timer {
        compatible = "arm,armv8-timer";
        interrupts = <1 13 0xf08>, <1 14 0xf08>, <1 11 0xf08>, <1 10 0xf08>;
    };
    soc {
        compatible = "simple-bus";
        #address-cells = <1>;
        #size-cells = <1>;
        ranges = <0x7e000000 0x0 0xfe000000 0x1800000>, <0x40000000 0x0 0xff800000 0x800000>;
        dma-ranges = <0xc0000000 0x0 0x0 0x40000000>;
        mailbox@7e00b880 { compatible = "brcm,bcm2835-mbox"; reg = <0x7e00b880 0x40>; };
        gpio@7e200000 { compatible = "brcm,bcm2711-gpio"; reg = <0x7e200000 0xb4>; };
        dma-controller@7e007000 { compatible = "brcm,bcm2835-dma"; reg = <0x7e007000 0xb00>; };
        gic: interrupt-controller@40041000 {
            compatible = "arm,gic-400";
            #interrupt-cells = <3>;
            interrupt-controller;
            reg = <0x40041000 0x1000>, <0x40042000 0x2000>;
        };
        serial@7e201000 {
            compatible = "arm,pl011", "arm,primecell";
            reg = <0x7e201000 0x200>;
            interrupts = <0 121 4>;
            arm,cpu-registers-not-fw-configured;
        };
    };
};
"#;

/// The parts of Linux's bcm2837-rpi-3-b.dts that are read here.
pub(crate) const PI_3: &str = r#"/dts-v1/;
/memreserve/ 0x0 0x1000;
/ {
    #address-cells = <1>;
    #size-cells = <1>;
    interrupt-parent = <&intc>;
    model = "Raspberry Pi 3 Model B";
    compatible = "raspberrypi,3-model-b", "brcm,bcm2837";
    aliases { serial0 = "/soc/serial@7e201000"; serial1 = "/soc/serial@7e215040"; };
    chosen {
        #address-cells = <1>;
        #size-cells = <1>;
        ranges;
        stdout-path = "serial1:115200n8";
        framebuffer@3b800000 { compatible = "simple-framebuffer"; reg = <0x3b800000 0x7e9000>; };
        framebuffer@0 { compatible = "simple-framebuffer"; status = "disabled"; reg = <0 0>; };
    };
    memory@0 { device_type = "memory"; reg = <0 0x3c000000>; };
    cpus {
        #address-cells = <1>;
        #size-cells = <0>;
        enable-method = "brcm,bcm2836-smp";
        cpu@0 { device_type = "cpu"; reg = <0>; enable-method = "spin-table"; cpu-release-addr = <0 0xd8>; };
    };
    timer {
        compatible = "arm,armv7-timer";
        interrupt-parent = <&local>;
        interrupts = <0 4>, <1 4>, <3 4>, <2 4>;
    };
    soc {
        compatible = "simple-bus";
        #address-cells = <1>;
        #size-cells = <1>;
        ranges = <0x7e000000 0x3f000000 0x1000000>, <0x40000000 0x40000000 0x1000>;
        dma-ranges = <0xc0000000 0x0 0x3f000000>;
        mailbox@7e00b880 { compatible = "brcm,bcm2835-mbox"; reg = <0x7e00b880 0x40>; };
        gpio@7e200000 { compatible = "brcm,bcm2835-gpio"; reg = <0x7e200000 0xb4>; };
        dma-controller@7e007000 { compatible = "brcm,bcm2835-dma"; reg = <0x7e007000 0xf00>; };
        intc: interrupt-controller@7e00b200 {
            compatible = "brcm,bcm2836-armctrl-ic";
            reg = <0x7e00b200 0x200>;
            interrupt-controller;
            #interrupt-cells = <2>;
            interrupt-parent = <&local>;
            interrupts = <8 4>;
        };
        local: interrupt-controller@40000000 {
            compatible = "brcm,bcm2836-l1-intc";
            reg = <0x40000000 0x100>;
            interrupt-controller;
            #interrupt-cells = <2>;
            interrupt-parent = <&local>;
        };
        watchdog@7e100000 {
            compatible = "brcm,bcm2835-pm", "brcm,bcm2835-pm-wdt";
            reg = <0x7e100000 0x114>, <0x7e00a000 0x24>;
        };
        serial@7e201000 {
            compatible = "arm,pl011", "arm,primecell";
            reg = <0x7e201000 0x200>;
            interrupts = <2 25>;
        };
        serial@7e215040 {
            compatible = "brcm,bcm2835-aux-uart";
            reg = <0x7e215040 0x40>;
            interrupts = <1 29>;
        };
    };
};
"#;

/// The parts of Linux's bcm2712-rpi-5-b.dts that are read here.
pub(crate) const PI_5: &str = r#"/dts-v1/;
/ {
    #address-cells = <2>;
    #size-cells = <2>;
    interrupt-parent = <&gic>;
    model = "Raspberry Pi 5";
    compatible = "raspberrypi,5-model-b", "brcm,bcm2712";
    aliases { serial10 = "/soc@107c000000/serial@7d001000"; };
    chosen { stdout-path = "serial10:115200n8"; };
    memory@0 { device_type = "memory"; reg = <0 0 0 0x28000000>; };
    clk_uart: clk-uart { compatible = "fixed-clock"; #clock-cells = <0>; clock-frequency = <9216000>; };
    clk_vpu: clk-vpu { compatible = "fixed-clock"; #clock-cells = <0>; clock-frequency = <750000000>; };
    cpus {
        #address-cells = <1>;
        #size-cells = <0>;
        cpu@0 { device_type = "cpu"; compatible = "arm,cortex-a76"; reg = <0>; enable-method = "psci"; };
        cpu@1 { device_type = "cpu"; compatible = "arm,cortex-a76"; reg = <0x100>; enable-method = "psci"; };
        cpu@2 { device_type = "cpu"; compatible = "arm,cortex-a76"; reg = <0x200>; enable-method = "psci"; };
        cpu@3 { device_type = "cpu"; compatible = "arm,cortex-a76"; reg = <0x300>; enable-method = "psci"; };
    };
    psci { method = "smc"; compatible = "arm,psci-1.0", "arm,psci-0.2"; };
    reserved-memory {
        ranges;
        #address-cells = <2>;
        #size-cells = <2>;
        atf@0 { reg = <0 0 0 0x80000>; no-map; };
        linux,cma { compatible = "shared-dma-pool"; size = <0 0x4000000>; reusable; alloc-ranges = <0 0 0 0x40000000>; };
    };
    timer { compatible = "arm,armv8-timer"; interrupts = <1 13 0xf08 1 14 0xf08 1 11 0xf08 1 10 0xf08>; };
    soc@107c000000 {
        compatible = "simple-bus";
        ranges = <0 0x10 0 0x80000000>;
        #address-cells = <1>;
        #size-cells = <1>;
        interrupt-controller@7cd00000 { compatible = "brcm,bcm2836-l1-intc"; reg = <0x7cd00000 0x100>; };
        serial@7d001000 {
            compatible = "arm,pl011", "arm,primecell";
            reg = <0x7d001000 0x200>;
            interrupts = <0 121 4>;
            clocks = <&clk_uart>, <&clk_vpu>;
            clock-names = "uartclk", "apb_pclk";
        };
        gic: interrupt-controller@7fff9000 {
            compatible = "arm,gic-400";
            reg = <0x7fff9000 0x1000>, <0x7fffa000 0x2000>, <0x7fffc000 0x2000>, <0x7fffe000 0x2000>;
            interrupt-controller;
            #interrupt-cells = <3>;
        };
    };
};
"#;
