#!/usr/bin/env python3
"""Checks an export of the audit without anything of hms-sync: hashlib and the formulas of RFC 6962 and RFC 8032.

    python3 verify_audit.py audit.ndjson audit.ndjson.checkpoint PUBLIC_KEY
                            (an export that begins later has its first record's proof beside it, audit.ndjson.proof)
    python3 verify_audit.py 17.proof PUBLIC_KEY

PUBLIC_KEY is NAME+ID+KEY, or a file with one a line (audit.pub). Exit code 0: all records are those that were signed.
Only Python is needed. It is a second implementation, written to be read; `hms audit verify` does more, and faster.
"""

import base64
import hashlib
import json
import os
import sys


class Wrong(Exception):
    pass


# Ed25519 as in section 5.1 and appendix A of RFC 8032, verification only.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def recover_x(y, sign):
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - x2) % P or (x == 0 and sign):
        raise Wrong("not a point of the curve")
    return P - x if x % 2 != sign else x


def point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        raise Wrong("not a point of the curve")
    x = recover_x(y, sign)
    return (x, y, 1, x * y % P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(number, p):
    result = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = add(result, p)
        p = add(p, p)
        number >>= 1
    return result


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = (recover_x(BASE_Y, 0), BASE_Y, 1, recover_x(BASE_Y, 0) * BASE_Y % P)


def signed_by(public, message, signature):
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r = point(public), point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = multiply(s, BASE), add(r, multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# Keys and notes as in C2SP signed-note, checkpoints as in C2SP tlog-checkpoint.
def read_keys(text):
    if os.path.exists(text):
        with open(text, encoding="utf-8") as file:
            text = file.read()
    keys = {}
    for line in text.split():
        name, key_id, key = line.split("+", 2)
        data = base64.b64decode(key, validate=True)
        if data[0] != 1 or hashlib.sha256(name.encode() + b"\n" + data).hexdigest()[:8] != key_id:
            raise Wrong(f"{line} is no key")
        keys[name, bytes.fromhex(key_id)] = data[1:]
    return keys


def read_checkpoint(note, keys):
    end = note.rfind("\n\n")
    text, signatures = note[: end + 1], note[end + 2 :]
    signed = False
    for line in signatures.splitlines():
        dash, name, data = line.split(" ")
        data = base64.b64decode(data, validate=True)
        key = keys.get((name, data[:4]))
        if dash != "\u2014":
            raise Wrong("no signature: " + line)
        if key:
            if not signed_by(key, text.encode(), data[4:]):
                raise Wrong("the checkpoint's signature is wrong")
            signed = True
    if not signed:
        raise Wrong("the checkpoint is not signed by this key")
    origin, size, root = text.split("\n")[:3]
    if origin not in {name for name, _ in keys}:
        raise Wrong("the checkpoint is of another log: " + origin)
    return origin, int(size), base64.b64decode(root, validate=True)


# The tree of RFC 6962.
def leaf_hash(line):
    return hashlib.sha256(b"\x00" + line).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_hash(leaves):
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(tree_hash(leaves[:k]), tree_hash(leaves[k:]))


def left_of(index, size, proof):
    """The subtrees to the left of a leaf, (leaves, hash), the largest first, out of its proof."""
    if size == 1:
        return []
    k = 1 << ((size - 1).bit_length() - 1)
    if index < k:
        return left_of(index, k, proof[:-1])
    return [(k, proof[-1])] + left_of(index - k, size - k, proof[:-1])


def grown_hash(before, leaves):
    """The root of a tree of which only the complete subtrees to the left are known, and the leaves after them."""
    stack = list(before)
    for leaf in leaves:
        stack.append((1, leaf))
        while len(stack) > 1 and stack[-1][0] == stack[-2][0]:
            (count, left), (_, right) = stack[-2], stack[-1]
            stack[-2:] = [(2 * count, node_hash(left, right))]
    if not stack:
        return tree_hash([])
    root = stack.pop()[1]
    while stack:
        root = node_hash(stack.pop()[1], root)
    return root


def root_from_proof(leaf, index, size, proof):
    """The root that the proof leads to, by the recursion that defines it."""
    if size == 1:
        if proof:
            raise Wrong("the proof is too long")
        return leaf
    if not proof:
        raise Wrong("the proof is too short")
    k = 1 << ((size - 1).bit_length() - 1)
    if index < k:
        return node_hash(root_from_proof(leaf, index, k, proof[:-1]), proof[-1])
    return node_hash(proof[-1], root_from_proof(leaf, index - k, size - k, proof[:-1]))


def canonical(value):
    """RFC 8785 for what the audit holds: no fractions, and strings as JSON.stringify writes them."""
    def no_number(text):
        raise Wrong(text + " is not a whole number")

    parsed = json.loads(value, parse_float=no_number, parse_constant=no_number)

    def write(part):
        if isinstance(part, dict):
            names = sorted(part, key=lambda name: name.encode("utf-16-be"))
            return "{" + ",".join(json.dumps(n, ensure_ascii=False) + ":" + write(part[n]) for n in names) + "}"
        if isinstance(part, list):
            return "[" + ",".join(map(write, part)) + "]"
        return json.dumps(part, ensure_ascii=False)

    return parsed, write(parsed).encode()


def check_line(line, seq):
    try:
        record, form = canonical(line)
    except ValueError as error:
        raise Wrong(f"record {seq}: not JSON: {error}") from error
    if form != line:
        raise Wrong(f"record {seq}: not in canonical form")
    if record.get("seq") != seq or not record.get("kind") or not record.get("time"):
        raise Wrong(f"record {seq}: seq, kind or time are wrong")


def check_export(file, checkpoint, keys):
    with open(checkpoint, encoding="utf-8") as note:
        origin, size, root = read_checkpoint(note.read(), keys)
    first, before = 0, []
    if os.path.exists(file + ".proof"):
        first, proved, proof, _ = read_proof(file + ".proof", keys)
        before = left_of(first, proved, proof)
    leaves = []
    with open(file, "rb") as lines:
        for line in lines:
            seq = first + len(leaves)
            if not line.endswith(b"\n"):
                raise Wrong(f"record {seq}: cut off")
            check_line(line[:-1], seq)
            leaves.append(leaf_hash(line[:-1]))
    if first + len(leaves) != size:
        raise Wrong(f"{size} records were signed, and those from {first} to below {first + len(leaves)} are there")
    # Twice, in two ways, where that can be.
    if grown_hash(before, leaves) != root or (first == 0 and tree_hash(leaves) != root):
        raise Wrong("the records are not those that were signed")
    return f"{len(leaves)} records of {origin} are those that were signed"


def read_proof(file, keys):
    with open(file, encoding="utf-8", newline="") as text:
        head, note = text.read().split("\n\n", 1)
    record, header, *rest = head.split("\n")
    if header != "c2sp.org/tlog-proof@v1" or not rest[0].startswith("index "):
        raise Wrong("this is no proof")
    index, proof = int(rest[0][6:]), [base64.b64decode(line, validate=True) for line in rest[1:]]
    origin, size, root = read_checkpoint(note, keys)
    check_line(record.encode(), index)
    if index >= size or root_from_proof(leaf_hash(record.encode()), index, size, proof) != root:
        raise Wrong(f"record {index} is not the one that was signed")
    return index, size, proof, origin


def check_proof(file, keys):
    index, _, _, origin = read_proof(file, keys)
    return f"record {index} of {origin} is the one that was signed"


def main(args):
    if len(args) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        keys = read_keys(args[-1])
        print(check_export(args[0], args[1], keys) if len(args) == 3 else check_proof(args[0], keys))
        return 0
    except (Wrong, ValueError, OSError, KeyError, IndexError) as error:
        print(f"WRONG: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
