"""The table of works in a text."""

import pytest

from jaxablate.core.errors import UserError
from jaxablate.reports.works import read_works

TABLE = """path\tbytes\tsource\tlicence
old/Anna_Sewell_Black_Beauty.txt\t1\tgithub.com/a\tpublic domain
openstax/us-history.txt\t2\tgithub.com/openstax\tCC BY 4.0
old/Alice.txt\t3\tgithub.com/b\tpublic domain
"""


def test_works_stand_by_licence_and_title(tmp_path):
    path = tmp_path / "works.tsv"
    path.write_text(TABLE)
    old, textbooks = read_works(path)
    assert [work.title for work in old.works] == ["Alice", "Anna Sewell Black Beauty"]
    assert old.places == ("github.com/b", "github.com/a")
    assert (old.attributed, textbooks.attributed) == (False, True)
    assert textbooks.works[0].source == "github.com/openstax"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("path\tsource\nx\ty\n", "lacks 'licence'"),
        ("", "lacks 'path'"),
        (b"\xff\xfe", "not a table"),
        (None, "no such file"),
    ],
)
def test_another_file_is_refused(tmp_path, content, told):
    path = tmp_path / "works.tsv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=told):
        read_works(path)
