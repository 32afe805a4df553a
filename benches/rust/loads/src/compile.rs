//! A compiler in miniature: source text becomes tokens, boxed syntax trees, folded trees and code,
//! with names in hash maps. Most of it dies with its unit, some with its function.

use std::collections::HashMap;
use std::fmt::{self, Write};

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(i64),
    Name(String),
    Sign(char),
}

#[derive(Clone, Debug)]
enum Expr {
    Number(i64),
    Name(String),
    Binary(char, Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>),
}

#[derive(Debug)]
struct Function {
    name: String,
    body: Vec<(String, Expr)>,
}

enum Code {
    Push(i64),
    Load(usize),
    Store(usize),
    Do(char),
    Call(String, usize),
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Code::Push(number) => write!(f, "push {number}"),
            Code::Load(slot) => write!(f, "load {slot}"),
            Code::Store(slot) => write!(f, "store {slot}"),
            Code::Do(sign) => write!(f, "do {sign}"),
            Code::Call(name, nr) => write!(f, "call {name} {nr}"),
        }
    }
}

/// Compiles a source file of its own; the answer depends on everything done.
pub fn unit(number: u64) -> u64 {
    let text = source(number);
    let tokens = lex(&text);
    let functions = parse(&tokens);
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut listing = String::new();
    for function in &functions {
        let folded: Vec<_> = function.body.iter().map(|(to, e)| (to.clone(), fold(e))).collect();
        let mut code = Vec::new();
        for (to, expr) in &folded {
            emit(expr, &mut names, &mut code);
            let next = names.len();
            code.push(Code::Store(*names.entry(to.clone()).or_insert(next)));
        }
        let _ = writeln!(listing, "{}:", function.name);
        for line in &code {
            let _ = writeln!(listing, "    {line}");
        }
    }
    listing.bytes().map(u64::from).sum()
}

fn source(number: u64) -> String {
    let mut text = String::new();
    let mut seed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = |bound: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % bound
    };
    for f in 0..60 {
        let _ = writeln!(text, "fn function_{f} {{");
        for _ in 0..5 + next(30) {
            let _ = write!(text, "  variable_{} = {}", next(40), next(1000));
            for _ in 0..next(8) {
                let sign = ['+', '-', '*'][next(3) as usize];
                let _ = match next(3) {
                    0 => write!(text, " {sign} {}", next(100)),
                    1 => write!(text, " {sign} variable_{}", next(40)),
                    _ => {
                        write!(text, " {sign} function_{} ( variable_{} , 7 )", next(60), next(40))
                    }
                };
            }
            text.push_str(" ;\n");
        }
        text.push_str("}\n");
    }
    text
}

fn lex(text: &str) -> Vec<Token> {
    text.split_whitespace()
        .map(|word| match (word.parse(), word.chars().next()) {
            (Ok(number), _) => Token::Number(number),
            (_, Some(c)) if !c.is_alphanumeric() => Token::Sign(c),
            _ => Token::Name(word.to_owned()),
        })
        .collect()
}

fn parse(tokens: &[Token]) -> Vec<Function> {
    let mut at = 0;
    let mut functions = Vec::new();
    while let Some(Token::Name(name)) = tokens.get(at + 1) {
        at += 3;
        let mut body = Vec::new();
        while let Some(Token::Name(to)) = tokens.get(at) {
            at += 2;
            body.push((to.clone(), expression(tokens, &mut at)));
            at += 1;
        }
        at += 1;
        functions.push(Function { name: name.clone(), body });
    }
    functions
}

fn expression(tokens: &[Token], at: &mut usize) -> Expr {
    let mut left = operand(tokens, at);
    while let Some(&Token::Sign(sign @ ('+' | '-' | '*'))) = tokens.get(*at) {
        *at += 1;
        left = Expr::Binary(sign, Box::new(left), Box::new(operand(tokens, at)));
    }
    left
}

fn operand(tokens: &[Token], at: &mut usize) -> Expr {
    let token = tokens.get(*at).cloned();
    *at += 1;
    match token {
        Some(Token::Name(name)) if tokens.get(*at) == Some(&Token::Sign('(')) => {
            let mut arguments = Vec::new();
            while matches!(tokens.get(*at), Some(Token::Sign('(' | ','))) {
                *at += 1;
                arguments.push(expression(tokens, at));
            }
            *at += 1;
            Expr::Call(name, arguments)
        }
        Some(Token::Name(name)) => Expr::Name(name),
        Some(Token::Number(number)) => Expr::Number(number),
        _ => Expr::Number(0),
    }
}

fn fold(expr: &Expr) -> Expr {
    match expr {
        Expr::Binary(sign, left, right) => match (sign, fold(left), fold(right)) {
            ('+', Expr::Number(a), Expr::Number(b)) => Expr::Number(a.wrapping_add(b)),
            ('*', Expr::Number(a), Expr::Number(b)) => Expr::Number(a.wrapping_mul(b)),
            (&sign, left, right) => Expr::Binary(sign, Box::new(left), Box::new(right)),
        },
        Expr::Call(name, arguments) => {
            Expr::Call(name.clone(), arguments.iter().map(fold).collect())
        }
        other => other.clone(),
    }
}

fn emit(expr: &Expr, names: &mut HashMap<String, usize>, code: &mut Vec<Code>) {
    match expr {
        Expr::Number(number) => code.push(Code::Push(*number)),
        Expr::Name(name) => {
            let next = names.len();
            code.push(Code::Load(*names.entry(name.clone()).or_insert(next)));
        }
        Expr::Binary(sign, left, right) => {
            emit(left, names, code);
            emit(right, names, code);
            code.push(Code::Do(*sign));
        }
        Expr::Call(name, arguments) => {
            arguments.iter().for_each(|argument| emit(argument, names, code));
            code.push(Code::Call(name.clone(), arguments.len()));
        }
    }
}
