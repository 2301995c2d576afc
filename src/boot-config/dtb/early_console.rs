// SPDX-License-Identifier: MIT OR Apache-2.0
//! A console that the command line names by address: `earlycon=` or `console=` in Linux's form
//! (Documentation/admin-guide/kernel-parameters.txt): `pl011,[mmio|mmio32,]ADDRESS[,OPTIONS]`, the same with `bcm2835aux` or `cdns`,
//! `uart8250|uart|ns16550|ns16550a,mmio|mmio16|mmio32,ADDRESS[,OPTIONS]`.

use super::console::{UartModel, leading_number};

/// What one value says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EarlyConsole<'a> {
    pub(super) model: UartModel,
    pub(super) address: u64,
    pub(super) register_shift: u32,
    pub(super) register_width: u32,
    pub(super) options: &'a str,
    pub(super) baud: Option<u32>,
}

/// Reads the value of `earlycon=` or `console=`; `None` for what names no memory-mapped UART by address.
pub(super) fn parse(value: &str) -> Option<EarlyConsole<'_>> {
    let (name, rest) = value.split_once(',')?;
    let model = match name {
        "pl011" => UartModel::Pl011,
        "bcm2835aux" => UartModel::Bcm2835Aux,
        "cdns" => UartModel::Cadence,
        "uart8250" | "uart" | "ns16550" | "ns16550a" => UartModel::Ns16550,
        _ => return None,
    };
    let (kind, after) = rest.split_once(',').unwrap_or((rest, ""));
    let (register_shift, register_width, place) = match kind {
        "mmio" => (0, 1, after),
        "mmio16" => (1, 2, after),
        "mmio32" => (2, 4, after),
        // Only a 16550 may not go without.
        _ if model != UartModel::Ns16550 => (2, 4, rest),
        _ => return None,
    };
    let (address, options) = place.split_once(',').unwrap_or((place, ""));
    let address = match address.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => address.parse().ok(),
    };
    Some(EarlyConsole {
        model,
        address: address.filter(|address| *address != 0)?,
        register_shift,
        register_width,
        options,
        baud: leading_number(options),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(value: &str) -> Option<(UartModel, u64, u32, u32, Option<u32>)> {
        parse(value).map(|it| {
            let (shift, width) = (it.register_shift, it.register_width);
            (it.model, it.address, shift, width, it.baud)
        })
    }

    #[test]
    fn forms_of_the_documentation_are_read() {
        let pl011 = (UartModel::Pl011, 0x900_0000, 2, 4, None);
        assert_eq!(places("pl011,0x9000000"), Some(pl011));
        assert_eq!(places("pl011,mmio32,0x9000000"), Some(pl011));
        let fast = Some((UartModel::Pl011, 0x900_0000, 2, 4, Some(921_600)));
        assert_eq!(places("pl011,0x9000000,921600n8"), fast);
        let mini = (UartModel::Bcm2835Aux, 0x3f21_5040, 2, 4, None);
        assert_eq!(places("bcm2835aux,0x3f215040"), Some(mini));
        assert_eq!(places("bcm2835aux,mmio32,0x3f215040"), Some(mini));
        let cadence = (UartModel::Cadence, 0xff00_0000, 2, 4, Some(115_200));
        assert_eq!(places("cdns,0xff000000,115200n8"), Some(cadence));
        let uart = |shift, width, baud| (UartModel::Ns16550, 0xff13_0000, shift, width, baud);
        assert_eq!(places("uart8250,mmio32,0xff130000"), Some(uart(2, 4, None)));
        assert_eq!(
            places("uart,mmio,0xff130000,115200n8"),
            Some(uart(0, 1, Some(115_200)))
        );
        assert_eq!(places("ns16550a,mmio16,4279435264"), Some(uart(1, 2, None)));
    }

    #[test]
    fn what_names_no_address_is_none() {
        for value in [
            "",
            "pl011",
            "pl011,",
            "pl011,mmio32",
            "pl011,0x",
            "pl011,0",
            "pl011,0x1ffffffffffffffff",
            "uart8250,0xff130000",
            "uart8250,io,0x3f8",
            "uart8250,mmio32be,0xff130000",
            "ttyAMA0,115200",
            "efifb",
            "bcm2835aux",
            "bcm2835aux,0",
        ] {
            assert_eq!(parse(value), None, "{value:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(value in ".*") {
            // Nothing to compare: it must not panic.
            let _ = parse(&value);
        }
    }
}
