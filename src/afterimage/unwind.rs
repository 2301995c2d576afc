// SPDX-License-Identifier: MIT OR Apache-2.0
//! Walks an arm64 stack by DWARF call frame information, then by frame pointers, then by guess.
//!
//! DWARF for the Arm 64-bit Architecture (AADWARF64) numbers x0 to x30 as 0 to 30, SP as 31 and PC as 32. A row
//! with a rule for PC itself is an exception frame: every register is restored and the PC is exact, not a return address.

use gimli::{CfaRule, EvaluationResult, Register, RegisterRule, UnwindSection, Value};

use crate::symbols::{Bytes, FrameTables, Symbols};

/// DWARF number of the frame pointer.
const FP: u16 = 29;
/// DWARF number of the link register.
const LR: u16 = 30;
/// DWARF number of the stack pointer.
const SP: u16 = 31;
/// DWARF number of the program counter.
const PC: u16 = 32;
/// Most frames that are walked: a recursion is shown, an endless loop ends.
pub const MAX_FRAMES: usize = 256;

/// Memory of the crashed machine, by virtual address.
pub trait Memory {
    /// Returns the doubleword at `address`, `None` where the dump has nothing.
    fn read_u64(&self, address: u64) -> Option<u64>;
}

/// General registers as far as they are known: x0 to x30, then SP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    values: [Option<u64>; 32],
    /// Program counter.
    pub pc: u64,
}

impl Registers {
    /// Makes the set of a stopped CPU.
    #[must_use]
    pub fn new(x: &[u64; 31], sp: u64, pc: u64) -> Self {
        let mut values = [None; 32];
        for (value, x) in values.iter_mut().zip(x.iter().chain(std::iter::once(&sp))) {
            *value = Some(*x);
        }
        Self { values, pc }
    }

    fn get(&self, register: Register) -> Option<u64> {
        if register.0 == PC {
            return Some(self.pc);
        }
        self.values.get(usize::from(register.0)).copied().flatten()
    }

    fn set(&mut self, register: u16, value: Option<u64>) {
        if let Some(slot) = self.values.get_mut(usize::from(register)) {
            *slot = value;
        }
    }
}

/// How a frame was found from the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is where the CPU stopped.
    Stopped,
    /// By call frame information.
    Unwound,
    /// By call frame information of an exception entry: the PC is the interrupted instruction.
    Interrupted,
    /// By the frame pointer chain.
    FramePointer,
    /// From the link register, since the PC is no code: a guess.
    LinkRegister,
}

/// One physical frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The registers in this frame.
    pub registers: Registers,
    /// How it was found.
    pub found: Found,
}

impl Frame {
    /// Returns the address to look up: for a return address the call before it.
    #[must_use]
    pub const fn lookup_address(&self) -> u64 {
        match self.found {
            Found::Stopped | Found::Interrupted => self.registers.pc,
            Found::Unwound | Found::FramePointer | Found::LinkRegister => {
                self.registers.pc.wrapping_sub(1)
            }
        }
    }
}

/// Why a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At the outermost frame, as the program says itself.
    Outermost,
    /// The dump has no memory at the address.
    NoMemory(u64),
    /// The address is no code and nothing tells what called it.
    NotCode(u64),
    /// The stack does not grow towards its base: it loops or is overwritten.
    Loop,
    /// [`MAX_FRAMES`] were walked.
    TooDeep,
    /// The unwind table for the address is unusable.
    BadTable(u64),
}

enum Step {
    To(Box<Frame>),
    End(End),
}

/// Walks from `start` outwards; returns the frames, innermost first, and why the walk ended.
pub fn walk(symbols: &Symbols, memory: &dyn Memory, start: Registers) -> (Vec<Frame>, End) {
    let mut frames = vec![Frame {
        registers: start,
        found: Found::Stopped,
    }];
    while frames.len() < MAX_FRAMES {
        let Some(last) = frames.last() else { break };
        match step(symbols, memory, last) {
            Step::End(end) => return (frames, end),
            Step::To(next) => {
                if is_stuck(last, &next) {
                    return (frames, End::Loop);
                }
                frames.push(*next);
            }
        }
    }
    (frames, End::TooDeep)
}

/// A caller's stack pointer is not below its callee's, except across an exception, which may switch stacks. Where it is
/// unknown, the frame pointer stands for it.
fn is_stuck(last: &Frame, next: &Frame) -> bool {
    let has_sp = [last, next]
        .iter()
        .all(|f| f.registers.get(Register(SP)).is_some());
    let sp = |f: &Frame| f.registers.get(Register(if has_sp { SP } else { FP }));
    let is_same = sp(last) == sp(next) && last.registers.pc == next.registers.pc;
    // A frame pointer of 0 ends the chain, it is no address.
    let is_below =
        matches!((sp(last), sp(next)), (Some(l), Some(n)) if n < l && (has_sp || n != 0));
    is_same || (is_below && next.found != Found::Interrupted)
}

fn step(symbols: &Symbols, memory: &dyn Memory, frame: &Frame) -> Step {
    let pc = frame.registers.pc;
    if !symbols.is_code(frame.lookup_address()) {
        return from_link_register(symbols, frame);
    }
    if let Some(step) = by_tables(symbols, memory, frame) {
        return step;
    }
    by_frame_pointer(symbols, memory, frame).unwrap_or(Step::End(End::BadTable(pc)))
}

/// At a jump into nowhere the link register still says who called.
fn from_link_register(symbols: &Symbols, frame: &Frame) -> Step {
    let pc = frame.registers.pc;
    let is_live = matches!(frame.found, Found::Stopped | Found::Interrupted);
    let lr = frame
        .registers
        .get(Register(LR))
        .map(|lr| strip_pac(symbols, lr));
    match lr {
        Some(lr) if is_live && symbols.is_code(lr.wrapping_sub(1)) => {
            let mut registers = frame.registers;
            registers.pc = lr;
            Step::To(Box::new(Frame {
                registers,
                found: Found::LinkRegister,
            }))
        }
        _ if pc == 0 && !is_live => Step::End(End::Outermost),
        _ => Step::End(End::NotCode(pc)),
    }
}

/// Takes a pointer authentication code out of a return address.
fn strip_pac(symbols: &Symbols, address: u64) -> u64 {
    const CODE_BITS: u64 = 0xffff << 48;
    const SELECTOR: u64 = 1 << 55;
    if symbols.is_code(address.wrapping_sub(1)) {
        return address;
    }
    let stripped = if address & SELECTOR == 0 {
        address & !CODE_BITS
    } else {
        address | CODE_BITS
    };
    if symbols.is_code(stripped.wrapping_sub(1)) {
        stripped
    } else {
        address
    }
}

/// After a step by frame pointer the stack pointer is unknown: where the frame record lies in a frame is the compiler's
/// choice. The function itself says it, in the instruction `add x29, sp, #offset` before `address`.
fn stack_pointer(
    symbols: &Symbols,
    registers: &Registers,
    function: u64,
    address: u64,
) -> Option<u64> {
    /// `add x29, sp, #imm12`; `mov x29, sp` is its form with 0 (Arm ARM C6.2.4).
    const ADD_X29_SP: u32 = 0x9100_03fd;
    const IMM12: u32 = 0xfff << 10;
    /// A prologue is short; a function's start may be far.
    const INSTRUCTIONS_MAX: usize = 256;
    let known = registers.get(Register(SP));
    if known.is_some() {
        return known;
    }
    let offset = (function..address)
        .step_by(4)
        .take(INSTRUCTIONS_MAX)
        .filter_map(|at| symbols.instruction(at))
        .find(|word| word & !IMM12 == ADD_X29_SP)
        .map(|word| (word & IMM12) >> 10)?;
    Some(registers.get(Register(FP))?.wrapping_sub(u64::from(offset)))
}

fn by_frame_pointer(symbols: &Symbols, memory: &dyn Memory, frame: &Frame) -> Option<Step> {
    let fp = frame.registers.get(Register(FP))?;
    if fp == 0 {
        return Some(Step::End(End::Outermost));
    }
    let Some(caller_fp) = memory.read_u64(fp) else {
        return Some(Step::End(End::NoMemory(fp)));
    };
    let lr_at = fp.wrapping_add(8);
    let Some(lr) = memory.read_u64(lr_at) else {
        return Some(Step::End(End::NoMemory(lr_at)));
    };
    if lr == 0 {
        return Some(Step::End(End::Outermost));
    }
    let mut registers = frame.registers;
    registers.values = [None; 32];
    registers.set(FP, Some(caller_fp));
    registers.pc = strip_pac(symbols, lr);
    Some(Step::To(Box::new(Frame {
        registers,
        found: Found::FramePointer,
    })))
}

/// Unwinds by `.debug_frame`, then `.eh_frame`; `None` when neither covers the address.
fn by_tables(symbols: &Symbols, memory: &dyn Memory, frame: &Frame) -> Option<Step> {
    let tables = symbols.frame_tables();
    by_table(symbols, memory, frame, &tables.debug_frame, tables)
        .or_else(|| by_table(symbols, memory, frame, &tables.eh_frame, tables))
}

fn by_table<S>(
    symbols: &Symbols,
    memory: &dyn Memory,
    frame: &Frame,
    section: &S,
    tables: &FrameTables,
) -> Option<Step>
where
    S: UnwindSection<Bytes>,
{
    let address = frame.lookup_address();
    let entry = section
        .fde_for_address(&tables.bases, address, S::cie_from_offset)
        .ok()?;
    let mut context = gimli::UnwindContext::new();
    let bad = Some(Step::End(End::BadTable(address)));
    let Ok(row) = entry.unwind_info_for_address(section, &tables.bases, &mut context, address)
    else {
        return bad;
    };
    let mut before = frame.registers;
    before.set(
        SP,
        stack_pointer(symbols, &before, entry.initial_address(), address),
    );
    let return_register = entry.cie().return_address_register();
    let rules = Rules {
        section,
        encoding: entry.cie().encoding(),
        memory,
        registers: &before,
    };
    // Without it the frame pointer chain still goes on.
    let cfa = rules.cfa(row.cfa())?;
    let mut registers = before;
    registers.set(SP, Some(cfa));
    let mut pc_rule = None;
    for &(register, ref rule) in row.registers() {
        if register.0 == PC {
            pc_rule = Some(rule.clone());
            continue;
        }
        match rules.value(rule, register, cfa) {
            Ok(value) => registers.set(register.0, value),
            // Only the return address is needed to go on; any other is merely unknown.
            Err(at) if register == return_register => return Some(Step::End(End::NoMemory(at))),
            Err(_) => registers.set(register.0, None),
        }
    }
    // Argument and scratch registers do not survive a call (AAPCS64 section 6.1.1), unless the table says so.
    let is_exception = pc_rule.is_some() || entry.is_signal_trampoline();
    if !is_exception {
        for scratch in 0..=18_u16 {
            if row.register(Register(scratch)).is_none() {
                registers.set(scratch, None);
            }
        }
    }
    let pc = match &pc_rule {
        Some(rule) => match rules.value(rule, Register(PC), cfa) {
            Ok(value) => value,
            Err(at) => return Some(Step::End(End::NoMemory(at))),
        },
        None => registers.get(return_register),
    };
    let Some(pc) = pc else {
        return Some(Step::End(End::Outermost));
    };
    // Where the return address was never saved it is in LR only in the innermost frame.
    let is_live = matches!(frame.found, Found::Stopped | Found::Interrupted);
    let is_saved = row.register(return_register).is_some();
    if pc_rule.is_none() && !is_saved && !is_live && frame.found != Found::LinkRegister {
        return Some(Step::End(End::Outermost));
    }
    if pc == 0 && !is_exception {
        return Some(Step::End(End::Outermost));
    }
    registers.pc = if is_exception {
        pc
    } else {
        strip_pac(symbols, pc)
    };
    let found = if is_exception {
        Found::Interrupted
    } else {
        Found::Unwound
    };
    Some(Step::To(Box::new(Frame { registers, found })))
}

/// What is needed to compute a rule's value.
struct Rules<'a, S> {
    section: &'a S,
    encoding: gimli::Encoding,
    memory: &'a dyn Memory,
    registers: &'a Registers,
}

impl<S: UnwindSection<Bytes>> Rules<'_, S> {
    fn cfa(&self, rule: &CfaRule<usize>) -> Option<u64> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => {
                Some(self.registers.get(*register)?.wrapping_add_signed(*offset))
            }
            CfaRule::Expression(expression) => self.evaluate(expression, None),
        }
    }

    /// Returns the register's value in the caller, `None` where it is lost, or the address that could not be read.
    fn value(
        &self,
        rule: &RegisterRule<usize>,
        register: Register,
        cfa: u64,
    ) -> std::result::Result<Option<u64>, u64> {
        let read = |at: u64| self.memory.read_u64(at).map(Some).ok_or(at);
        match rule {
            RegisterRule::SameValue => Ok(self.registers.get(register)),
            RegisterRule::Offset(offset) => read(cfa.wrapping_add_signed(*offset)),
            RegisterRule::ValOffset(offset) => Ok(Some(cfa.wrapping_add_signed(*offset))),
            RegisterRule::Register(other) => Ok(self.registers.get(*other)),
            RegisterRule::Expression(expression) => match self.evaluate(expression, Some(cfa)) {
                Some(at) => read(at),
                None => Ok(None),
            },
            RegisterRule::ValExpression(expression) => Ok(self.evaluate(expression, Some(cfa))),
            RegisterRule::Constant(value) => Ok(Some(*value)),
            // `Undefined`, `Architectural` and whatever a later gimli adds: the value is lost.
            _ => Ok(None),
        }
    }

    fn evaluate(
        &self,
        expression: &gimli::UnwindExpression<usize>,
        cfa: Option<u64>,
    ) -> Option<u64> {
        let expression = expression.get(self.section).ok()?;
        let mut evaluation = expression.evaluation(self.encoding);
        evaluation.set_max_iterations(10_000);
        if let Some(cfa) = cfa {
            evaluation.set_initial_value(cfa);
        }
        let mut result = evaluation.evaluate().ok()?;
        loop {
            result = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.registers.get(register)?;
                    evaluation
                        .resume_with_register(Value::Generic(value))
                        .ok()?
                }
                EvaluationResult::RequiresMemory {
                    address, size: 8, ..
                } => {
                    let value = self.memory.read_u64(address)?;
                    evaluation.resume_with_memory(Value::Generic(value)).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result() {
            [piece] => match piece.location {
                gimli::Location::Address { address } => Some(address),
                gimli::Location::Value { value } => value.to_u64(u64::MAX).ok(),
                gimli::Location::Register { register } => self.registers.get(register),
                _ => None,
            },
            _ => None,
        }
    }
}
