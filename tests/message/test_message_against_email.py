"""The standard library's parser finds the same parts in well-formed MIME trees."""

from base64 import encodebytes
from email import message_from_bytes
from email.message import Message

from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.message import Part, parse, section
from mailserver.message.decode import transfer_decoded

LINE = st.text(alphabet="ab -=.:\t", max_size=12).map(lambda line: line.rstrip() + "\n")
TEXT = st.lists(LINE, max_size=5).map("".join)
ENCODING = st.sampled_from(["7bit", "quoted-printable", "base64", None])
NAME = st.sampled_from(["a.txt", "two words.txt", 'with "quotes"', "semi;colon", "back\\slash", "gr\u00fc\u00df"])


@st.composite
def leaf(draw: st.DrawFn) -> Message:
    part = Message()
    part["Content-Type"] = draw(st.sampled_from(["text/plain", "TEXT/html; charset=utf-8", "image/png"]))
    encoding = draw(ENCODING)
    if encoding:
        part["Content-Transfer-Encoding"] = encoding
    if draw(st.booleans()):
        part.add_header("Content-Disposition", "attachment", filename=draw(NAME))
    text = draw(TEXT)
    part.set_payload(encodebytes(text.encode()).decode() if encoding == "base64" else text)
    return part


@st.composite
def branch(draw: st.DrawFn, children: st.SearchStrategy[Message]) -> Message:
    part = Message()
    if draw(st.integers(0, 3)) == 0:
        part["Content-Type"] = "message/rfc822"
        part.set_payload([draw(children)])
        return part
    part["Content-Type"] = "multipart/" + draw(st.sampled_from(["mixed", "alternative", "related"]))
    part.preamble = draw(st.sampled_from([None, "preamble\n"]))
    part.epilogue = draw(st.sampled_from([None, "", "epilogue\n"]))
    part.set_payload(draw(st.lists(children, min_size=1, max_size=4)))
    return part


def with_boundaries(tree: Message) -> Message:
    for number, part in enumerate(tree.walk()):
        if part.get_content_maintype() == "multipart":
            part.set_param("boundary", f"b{number}")
    return tree


TREES = st.recursive(leaf(), branch, max_leaves=8).map(with_boundaries)


def same(ours: Part, theirs: Message) -> None:
    assert f"{ours.type.decode()}/{ours.subtype.decode()}" == theirs.get_content_type()
    payload = theirs.get_payload()
    if ours.message is not None:
        assert isinstance(payload, list)
        same(ours.message, payload[0])
    elif isinstance(payload, list):
        assert ours.parameter(b"boundary") == str(theirs.get_boundary()).encode()
        assert len(ours.parts) == len(payload)
        for our, their in zip(ours.parts, payload, strict=True):
            same(our, their)
    else:
        assert ours.parts == ()
        body = ours.content[slice(*ours.body)]
        assert body.decode() == payload
        assert transfer_decoded(body, ours.encoding) == theirs.get_payload(decode=True)


@given(TREES)
@settings(max_examples=150)
def test_trees_are_the_same(tree: Message) -> None:
    content = tree.as_bytes().replace(b"\n", b"\r\n")
    theirs = message_from_bytes(content)
    ours = parse(content)
    same(ours, theirs)


@given(TREES)
def test_numbers_find_every_part(tree: Message) -> None:
    message = parse(tree.as_bytes().replace(b"\n", b"\r\n"))

    def walk(part: Part, numbers: tuple[int, ...]) -> None:
        assert section(message, numbers) is part
        inner = part.message if numbers and part.message else part
        if inner.parts:
            for number, child in enumerate(inner.parts, 1):
                walk(child, (*numbers, number))

    walk(message, ())
