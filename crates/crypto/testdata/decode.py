"""Reads Strongroom's formats without Strongroom: written from docs/design/20261122-formats.md and Python's standard library.

    decode.py check FILE...   opens or recomputes every vector in the files (- is standard input)
    decode.py make FOLDER     writes the frozen vectors; they were made once and are never made again

AES-GCM is written out below, so that nothing has to be installed. It is slow and not constant-time: for test vectors only.
"""

import hashlib
import hmac
import json
import pathlib
import sys

USES = ["api", "secret", "kmsv2", "wrap", "record", "backup", "node-copy", "kcv", "fingerprint"]
SUBJECTS = {"context": 1, "request": 2}


# AES-256 and GCM (FIPS 197, SP 800-38D)


def xtime(byte):
    return (byte << 1) ^ (0x11B if byte & 0x80 else 0)


def gf_multiply(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = xtime(a), b >> 1
    return product


def make_sbox():
    powers = [1]
    for _ in range(254):
        powers.append(gf_multiply(powers[-1], 3))
    inverses = {power: powers[-number % 255] for number, power in enumerate(powers)}
    return bytes(sbox_value(inverses.get(byte, 0)) for byte in range(256))


def sbox_value(inverse):
    value = 0x63
    for shift in range(5):
        value ^= (inverse << shift | inverse >> 8 - shift) & 0xFF
    return value


SBOX = make_sbox()


def expand_key(key):
    words = [key[i : i + 4] for i in range(0, 32, 4)]
    round_constant = 1
    for i in range(8, 60):
        word = words[i - 1]
        if i % 8 == 0:
            word = bytes(SBOX[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ round_constant]) + word[1:]
            round_constant = xtime(round_constant)
        elif i % 8 == 4:
            word = bytes(SBOX[b] for b in word)
        words.append(xor(words[i - 8], word))
    return [b"".join(words[i : i + 4]) for i in range(0, 60, 4)]


def encrypt_block(round_keys, block):
    state = xor(block, round_keys[0])
    for number, round_key in enumerate(round_keys[1:], 1):
        state = bytes(SBOX[state[(i + 4 * (i % 4)) % 16]] for i in range(16))
        if number < 14:
            state = b"".join(mix_column(state[i : i + 4]) for i in range(0, 16, 4))
        state = xor(state, round_key)
    return state


def mix_column(column):
    return bytes(
        gf_multiply(column[i], 2)
        ^ gf_multiply(column[(i + 1) % 4], 3)
        ^ column[(i + 2) % 4]
        ^ column[(i + 3) % 4]
        for i in range(4)
    )


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def ghash_multiply(x, y):
    product = 0
    for i in range(128):
        if x >> (127 - i) & 1:
            product ^= y
        y = (y >> 1) ^ (0xE1 << 120 if y & 1 else 0)
    return product


def ghash(hash_key, data):
    value = 0
    for i in range(0, len(data), 16):
        value = ghash_multiply(value ^ int.from_bytes(data[i : i + 16], "big"), hash_key)
    return value.to_bytes(16, "big")


def pad(data):
    return data + bytes(-len(data) % 16)


def gcm_stream(round_keys, iv, data):
    blocks = []
    for i in range(0, len(data), 16):
        counter = iv + (i // 16 + 2).to_bytes(4, "big")
        blocks.append(xor(data[i : i + 16], encrypt_block(round_keys, counter)))
    return b"".join(blocks)


def gcm_tag(round_keys, iv, aad, ciphertext):
    hash_key = int.from_bytes(encrypt_block(round_keys, bytes(16)), "big")
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    digest = ghash(hash_key, pad(aad) + pad(ciphertext) + lengths)
    return xor(digest, encrypt_block(round_keys, iv + b"\0\0\0\1"))


def gcm_seal(key, iv, aad, plaintext):
    round_keys = expand_key(key)
    ciphertext = gcm_stream(round_keys, iv, plaintext)
    return ciphertext, gcm_tag(round_keys, iv, aad, ciphertext)


def gcm_open(key, iv, aad, ciphertext, tag):
    round_keys = expand_key(key)
    agree(gcm_tag(round_keys, iv, aad, ciphertext), tag, "tag")
    return gcm_stream(round_keys, iv, ciphertext)


# Derivation (SP 800-108: counter before the fixed input, 32 bits)


def u32(number):
    return number.to_bytes(4, "big")


def u64(number):
    return number.to_bytes(8, "big")


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def derive(key, label, fixed, length):
    info = label.encode() + b"\0" + fixed
    blocks = (mac(key, u32(i + 1), info) for i in range(-(-length // 32)))
    return b"".join(blocks)[:length]


def use_byte(use):
    return bytes([USES.index(use) + 1])


def canonical(pairs):
    parts = [part for pair in sorted(pairs) for part in pair]
    return b"".join(u32(len(part)) + part for part in parts)


# The message


def version_bytes(version):
    epoch, number = version.split(".")
    return u32(int(epoch)) + u32(int(number))


def message_keys(material, head, context):
    keys = derive(material, "strongroom/message/v1", head[4:] + hashlib.sha256(context).digest(), 64)
    return keys[:32], keys[32:]


def place_bytes(use, key_id, version):
    return b"SRM1\1" + use_byte(use) + key_id + version_bytes(version)


def seal_message(material, place, salt, iv, context, plaintext):
    head = place + salt
    key, commitment = message_keys(material, head, context)
    ciphertext, tag = gcm_seal(key, iv, head + commitment + context, plaintext)
    return head + iv + commitment + ciphertext + tag


def open_message(material, place, context, message):
    head, iv, commitment = message[:46], message[46:58], message[58:90]
    agree(head[:30], place, "place")
    key, expected = message_keys(material, head, context)
    agree(commitment, expected, "commitment")
    return gcm_open(key, iv, head + commitment + context, message[90:-16], message[-16:])


# KEKs and wrapped material


def kek_place(vector):
    return unhex(vector["instance"]), unhex(vector["ring"]), vector["generation"]


def kek_check(vector):
    instance, ring, generation = kek_place(vector)
    key = derive(unhex(vector["kek"]), "strongroom/kek-check/v1", use_byte("kcv"), 32)
    return mac(key, instance, ring, u32(generation))[:16]


def material_context(vector):
    names = ["instance", "ring", "key", "version", "algorithm", "protection", "purpose"]
    pairs = [(name.encode(), vector[name].encode()) for name in names]
    return canonical(pairs + [(b"created", str(vector["created_ms"]).encode())])


def material_place(vector):
    _, ring, generation = kek_place(vector)
    return place_bytes("wrap", ring, f"0.{generation}")


def material_check(vector, context, material):
    key = derive(unhex(vector["kek"]), "strongroom/material-check/v1", use_byte("kcv"), 32)
    return mac(key, u32(len(context)), context, material)[:16]


# The store's records, digests, key ids


def record_key(vector, label):
    fixed = use_byte("record") + unhex(vector["instance"])
    return derive(unhex(vector["kek"]), label, fixed, 32)


def record_mac(vector, record):
    path = record["path"].encode()
    key = record_key(vector, "strongroom/record-mac/v1")
    head = unhex(vector["instance"]) + u64(record["seq"]) + u32(len(path))
    return mac(key, head, path, unhex(record["value"]))


def root(vector):
    element_key = record_key(vector, "strongroom/root-element/v1")
    elements = (mac(element_key, record_mac(vector, record)) for record in vector["records"])
    total = sum(int.from_bytes(element, "big") for element in elements) % 2**256
    key = record_key(vector, "strongroom/root-mac/v1")
    head = unhex(vector["instance"]) + u32(vector["epoch"]) + u64(vector["seq"])
    return mac(key, head, total.to_bytes(32, "big"))


def digest(vector):
    fixed = use_byte("fingerprint") + unhex(vector["instance"])
    key = derive(unhex(vector["kek"]), "strongroom/digest/v1", fixed, 32)
    return mac(key, bytes([SUBJECTS[vector["subject"]]]), unhex(vector["bytes"]))


def etcd_key_id(vector):
    ids = unhex(vector["instance"]) + unhex(vector["key"])
    fixed = ids + version_bytes(vector["version"]) + u32(vector["activation"])
    return "sr1-" + mac(b"strongroom/etcd-key-id/v1", fixed)[:20].hex()


# Checking


class Disagreement(Exception):
    pass


def agree(found, expected, what):
    if found != expected:
        raise Disagreement(what)


def unhex(text):
    return bytes.fromhex(text)


def context_of(vector):
    return canonical([(key.encode(), unhex(value)) for key, value in vector["context"]])


def check_message(vector):
    place = place_bytes(vector["use"], unhex(vector["key_id"]), vector["version"])
    message = unhex(vector["message"])
    plaintext = open_message(unhex(vector["material"]), place, context_of(vector), message)
    agree(plaintext, unhex(vector["plaintext"]), "plaintext")


def check_kek(vector):
    agree(kek_check(vector), unhex(vector["check"]), "check value")


def check_material(vector):
    context, message = material_context(vector), unhex(vector["message"])
    material = open_message(unhex(vector["kek"]), material_place(vector), context, message)
    agree(material, unhex(vector["material"]), "material")
    agree(material_check(vector, context, material), unhex(vector["check"]), "check value")


def check_root(vector):
    for record in vector["records"]:
        agree(record_mac(vector, record), unhex(record["mac"]), record["path"])
    agree(root(vector), unhex(vector["root"]), "root")


def check_digest(vector):
    agree(digest(vector), unhex(vector["digest"]), "digest")


def check_key_id(vector):
    agree(etcd_key_id(vector), vector["id"], "id")


CHECKS = {
    "messages": check_message,
    "keks": check_kek,
    "materials": check_material,
    "roots": check_root,
    "digests": check_digest,
    "key-ids": check_key_id,
}


def check(files):
    for file in files:
        text = sys.stdin.read() if file == "-" else pathlib.Path(file).read_text()
        document = json.loads(text)
        for number, vector in enumerate(document["vectors"]):
            try:
                CHECKS[document["kind"]](vector)
            except Disagreement as what:
                sys.exit(f"{document['kind']} {number}: {what} differs")
        print(f"{document['kind']}: {len(document['vectors'])} agree")


# Making the frozen vectors


def bytes_of(name, length):
    """Bytes that look random and are the same each time."""
    return derive(b"strongroom test vectors", name, b"", length)


def make_message(number, use, pairs, plaintext, version="1.1"):
    material, key_id = bytes_of(f"material {number}", 32), bytes_of(f"key {number}", 16)
    salt, iv = bytes_of(f"salt {number}", 16), bytes_of(f"iv {number}", 12)
    vector = {
        "use": use,
        "key_id": key_id.hex(),
        "version": version,
        "material": material.hex(),
        "context": [[key, value.hex()] for key, value in pairs],
        "plaintext": plaintext.hex(),
    }
    place = place_bytes(use, key_id, version)
    message = seal_message(material, place, salt, iv, context_of(vector), plaintext)
    return vector | {"message": message.hex()}


def make_messages():
    pairs = [("zone", b"b"), ("app", b"shop"), ("\u00e9t\u00e9", b"\xff\x00"), ("empty", b"")]
    for_each_use = [
        make_message(number, use, [("use", use.encode())], f"for {use}".encode())
        for number, use in enumerate(USES)
    ]
    return for_each_use + [
        make_message(20, "api", [], b""),
        make_message(21, "api", pairs, b"sixteen bytes...", "2.7"),
        make_message(22, "kmsv2", pairs, bytes_of("seed", 32), "4294967295.4294967295"),
        make_message(23, "secret", [("long", b"x" * 1000)], bytes_of("long", 333), "0.1"),
    ]


def make_kek(number, generation):
    return {
        "kek": bytes_of(f"kek {number}", 32).hex(),
        "instance": bytes_of(f"instance {number}", 16).hex(),
        "ring": bytes_of(f"ring {number}", 16).hex(),
        "generation": generation,
    }


def make_keks():
    vectors = [make_kek(1, 1), make_kek(2, 70000)]
    return [vector | {"check": kek_check(vector).hex()} for vector in vectors]


def make_material(number, generation, version, created_ms):
    material = bytes_of(f"material {number}", 32)
    vector = make_kek(number, generation) | {
        "key": bytes_of(f"key {number}", 16).hex(),
        "version": version,
        "algorithm": "AES-256-GCM",
        "protection": "HSMWrapped",
        "purpose": "EncryptDecrypt",
        "created_ms": created_ms,
        "material": material.hex(),
    }
    context = material_context(vector)
    salt, iv = bytes_of(f"salt {number}", 16), bytes_of(f"iv {number}", 12)
    message = seal_message(
        unhex(vector["kek"]), material_place(vector), salt, iv, context, material
    )
    check = material_check(vector, context, material)
    return vector | {"message": message.hex(), "check": check.hex()}


def make_materials():
    return [make_material(1, 1, "1.1", 1795305600000), make_material(2, 70000, "3.12", 0)]


def make_root(number, epoch, seq, records):
    vector = make_kek(number, 1) | {"epoch": epoch, "seq": seq, "records": records}
    for record in records:
        record["mac"] = record_mac(vector, record).hex()
    return vector | {"root": root(vector).hex()}


def make_roots():
    record = lambda path, seq, value: {"path": path, "seq": seq, "value": value.hex()}
    many = [record(f"key/{i}", i + 1, bytes_of(f"value {i}", i)) for i in range(12)]
    return [make_root(1, 1, 0, []), make_root(2, 3, 2**64 - 1, many + [record("", 0, b"")])]


def make_digests():
    vectors = [
        make_kek(1, 1) | {"subject": subject, "bytes": data.hex()}
        for subject in SUBJECTS
        for data in (b"", canonical([(b"app", b"shop")]))
    ]
    return [vector | {"digest": digest(vector).hex()} for vector in vectors]


def make_key_ids():
    vectors = [
        {
            "instance": bytes_of("instance 1", 16).hex(),
            "key": bytes_of("key 1", 16).hex(),
            "version": version,
            "activation": activation,
        }
        for version, activation in [("1.1", 1), ("1.2", 2), ("1.1", 3), ("2.3", 4294967295)]
    ]
    return [vector | {"id": etcd_key_id(vector)} for vector in vectors]


def make(folder):
    kinds = {
        "messages": make_messages,
        "keks": make_keks,
        "materials": make_materials,
        "roots": make_roots,
        "digests": make_digests,
        "key-ids": make_key_ids,
    }
    for kind, vectors in kinds.items():
        document = {"kind": kind, "vectors": vectors()}
        path = pathlib.Path(folder, f"{kind}.json")
        path.write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n")


def main(arguments):
    match arguments:
        case ["check", *files] if files:
            check(files)
        case ["make", folder]:
            make(folder)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
