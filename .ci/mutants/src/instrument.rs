//! Writes all mutants into the code at once: each is a question, `on(7)`, that a run answers with yes
//! for one number at most.

use std::collections::BTreeSet;
use std::ops::Range;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, ReturnType, Stmt, Type};

/// One change.
#[derive(Clone, Debug)]
pub struct Mutant {
    pub id: u32,
    pub line: usize,
    /// What it does, for people.
    pub what: String,
}

/// How a piece of text is written anew.
#[derive(Debug)]
enum Change {
    /// Another operator between two operands.
    Operator { left: Range<usize>, right: Range<usize>, from: &'static str, to: &'static str },
    /// A statement is left out.
    LeftOut,
    /// `!` is left out in front of an operand.
    NotNegated { operand: Range<usize> },
    /// At the front of a body: it returns at once.
    Returns(&'static str),
}

#[derive(Debug)]
struct Edit {
    id: u32,
    range: Range<usize>,
    change: Change,
}

/// The mutants of one file, and its text with them.
pub struct Instrumented {
    pub mutants: Vec<Mutant>,
    pub text: String,
}

/// Instruments a file. Numbers begin at `first`; those of `left_out` are not written.
pub fn instrument(
    source: &str,
    first: u32,
    left_out: &BTreeSet<u32>,
    path_of_on: &str,
) -> syn::Result<Instrumented> {
    let file = syn::parse_file(source)?;
    let mut finder = Finder { next: first, edits: Vec::new(), mutants: Vec::new() };
    finder.visit_file(&file);
    let Finder { mut edits, mut mutants, .. } = finder;
    edits.retain(|edit| !left_out.contains(&edit.id));
    // Outer ones first; of those that begin together, the longer one.
    edits.sort_by_key(|edit| (edit.range.start, std::cmp::Reverse(edit.range.end)));
    let writer = Writer { source, edits: &edits, on: path_of_on };
    let text = writer.write(0..source.len(), 0..edits.len());
    mutants.retain(|mutant| !left_out.contains(&mutant.id));
    Ok(Instrumented { mutants, text })
}

struct Writer<'a> {
    source: &'a str,
    edits: &'a [Edit],
    on: &'a str,
}

impl Writer<'_> {
    /// The text of `range` with those of the `edits` that are in it.
    fn write(&self, range: Range<usize>, edits: Range<usize>) -> String {
        let (mut out, mut at, mut nth) = (String::new(), range.start, edits.start);
        while nth < edits.end {
            let edit = &self.edits[nth];
            let inner = nth + 1..self.end_of(nth, edits.end);
            if edit.range.start < at || edit.range.end > range.end {
                nth += 1;
                continue;
            }
            out.push_str(&self.source[at..edit.range.start]);
            out.push_str(&self.apply(edit, inner.clone()));
            at = edit.range.end;
            nth = inner.end;
        }
        out.push_str(&self.source[at..range.end]);
        out
    }

    /// Where the edits inside of the `nth` one end.
    fn end_of(&self, nth: usize, most: usize) -> usize {
        let end = self.edits[nth].range.end;
        (nth + 1..most).find(|&other| self.edits[other].range.start >= end).unwrap_or(most)
    }

    fn apply(&self, edit: &Edit, inner: Range<usize>) -> String {
        let on = format!("{}({})", self.on, edit.id);
        match &edit.change {
            Change::Operator { left, right, from, to } => {
                let left = self.write(left.clone(), inner.clone());
                let right = self.write(right.clone(), inner);
                format!(
                    "(if {on} {{ ({left}) {to} ({right}) }} else {{ ({left}) {from} ({right}) }})"
                )
            }
            Change::NotNegated { operand } => {
                let operand = self.write(operand.clone(), inner);
                format!("(if {on} {{ ({operand}) }} else {{ !({operand}) }})")
            }
            Change::LeftOut => {
                let statement = self.write(edit.range.clone(), inner);
                format!("if !{on} {{ {statement} }}")
            }
            Change::Returns(value) => format!("if {on} {{ return {value}; }} "),
        }
    }
}

struct Finder {
    next: u32,
    edits: Vec<Edit>,
    mutants: Vec<Mutant>,
}

fn range(of: Span) -> Range<usize> {
    of.byte_range()
}

impl Finder {
    fn add(&mut self, at: Span, range: Range<usize>, change: Change, what: String) {
        let id = self.next;
        self.next += 1;
        self.mutants.push(Mutant { id, line: at.start().line, what });
        self.edits.push(Edit { id, range, change });
    }

    fn body(&mut self, signature: &syn::Signature, block: &syn::Block) {
        if block.stmts.is_empty() {
            return;
        }
        let start = range(block.brace_token.span.open()).end;
        for value in values_of(&signature.output) {
            let what = format!("`{}` returns `{value}` at once", signature.ident);
            self.add(signature.ident.span(), start..start, Change::Returns(value), what);
        }
    }
}

/// What a function of this type may return in place of what it should.
fn values_of(output: &ReturnType) -> &'static [&'static str] {
    let ReturnType::Type(_, of) = output else { return &[""] };
    let Type::Path(path) = &**of else { return &[] };
    let Some(last) = path.path.segments.last() else { return &[] };
    let is_unit = |arguments: &syn::PathArguments| {
        let syn::PathArguments::AngleBracketed(arguments) = arguments else { return false };
        let first = arguments.args.first();
        matches!(first, Some(syn::GenericArgument::Type(Type::Tuple(tuple))) if tuple.elems.is_empty())
    };
    match last.ident.to_string().as_str() {
        "bool" => &["true", "false"],
        "usize" | "u64" | "u32" | "u16" | "Tick" => &["0"],
        "Option" => &["None"],
        "Result" if is_unit(&last.arguments) => &["Ok(())"],
        _ => &[],
    }
}

/// The operator that takes the place of another, and how both are written.
fn other(op: &BinOp) -> Option<(&'static str, &'static str)> {
    Some(match op {
        BinOp::Lt(_) => ("<", "<="),
        BinOp::Le(_) => ("<=", "<"),
        BinOp::Gt(_) => (">", ">="),
        BinOp::Ge(_) => (">=", ">"),
        BinOp::Eq(_) => ("==", "!="),
        BinOp::Ne(_) => ("!=", "=="),
        BinOp::And(_) => ("&&", "||"),
        BinOp::Or(_) => ("||", "&&"),
        BinOp::Add(_) => ("+", "-"),
        BinOp::Sub(_) => ("-", "+"),
        _ => return None,
    })
}

/// Whether it is `let … = …`, or a chain with one, which may not stand in parentheses.
fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) if matches!(binary.op, BinOp::And(_)) => {
            has_let(&binary.left) || has_let(&binary.right)
        }
        _ => false,
    }
}

/// Whether it is only compiled for tests, or for other systems.
fn is_apart(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return attribute.path().is_ident("test");
        };
        let tokens = list.tokens.to_string();
        list.path.is_ident("cfg")
            && (tokens.contains("test")
                || tokens.contains("myriapod_")
                || tokens.contains("kqueue"))
            && !tokens.contains("not")
    })
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            _ => &Vec::new(),
        };
        // Constants are asked when the code is compiled.
        if !is_apart(attributes) && !matches!(item, syn::Item::Const(_) | syn::Item::Static(_)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if item.sig.constness.is_none() {
            self.body(&item.sig, &item.block);
            self.visit_block(&item.block);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if item.sig.constness.is_none() && !is_apart(&item.attrs) {
            self.body(&item.sig, &item.block);
            self.visit_block(&item.block);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.body(&item.sig, block);
            self.visit_block(block);
        }
    }

    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}

    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}

    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}

    fn visit_type(&mut self, _: &'ast Type) {}

    fn visit_pat(&mut self, _: &'ast syn::Pat) {}

    fn visit_variant(&mut self, _: &'ast syn::Variant) {}

    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_expr_repeat(&mut self, expr: &'ast syn::ExprRepeat) {
        self.visit_expr(&expr.expr);
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if let Stmt::Expr(expr, Some(_)) = statement {
            let what = match expr {
                Expr::MethodCall(call) => Some(format!("no call of `{}`", call.method)),
                Expr::Call(_) => Some("no call".to_owned()),
                Expr::Assign(assign) if !matches!(*assign.left, Expr::Path(_) | Expr::Infer(_)) => {
                    Some("not assigned".to_owned())
                }
                Expr::Binary(_) => Some("not counted up or down".to_owned()),
                _ => None,
            };
            if let Some(what) = what {
                self.add(expr.span(), range(statement.span()), Change::LeftOut, what);
            }
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_expr_binary(&mut self, expr: &'ast syn::ExprBinary) {
        if let Some((from, to)) = other(&expr.op)
            && !has_let(&expr.left)
            && !has_let(&expr.right)
        {
            let (left, right) = (range(expr.left.span()), range(expr.right.span()));
            let whole = left.start..right.end;
            let what = format!("`{from}` is `{to}`");
            self.add(expr.op.span(), whole, Change::Operator { left, right, from, to }, what);
        }
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_unary(&mut self, expr: &'ast syn::ExprUnary) {
        if matches!(expr.op, syn::UnOp::Not(_)) {
            let operand = range(expr.expr.span());
            let what = "`!` is left out".to_owned();
            self.add(expr.span(), range(expr.span()), Change::NotNegated { operand }, what);
        }
        visit::visit_expr_unary(self, expr);
    }
}
