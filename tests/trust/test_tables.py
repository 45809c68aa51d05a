"""Tables read back as they were, and a spreadsheet runs nothing of them."""

import csv
import io

import pandas as pd
import pytest

from lightning_sae.trust.tables import csv_bytes, read_csv, read_table

TEXTS = [
    *('=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''=1", "'", "''"),
    *("'quoted'", "a=b", "a,b", 'a"b', "a\nb", "a\r\nb", " =1", "", "é", "日本", "\x1b[31m", "7", "NA"),
    *("＝1+1", "＋1", "－1", "＠SUM(A1)", "\u200b=1", "\ufeff=1", "'\u200b=1", "\u200b", "\xa0=1"),
]


@pytest.fixture
def table():
    numbers = [-0.5, float("nan"), *range(len(TEXTS) - 2)]
    return pd.DataFrame({"label": TEXTS, "=x": TEXTS[::-1], "number": numbers, "yes": [True] * len(TEXTS)})


def test_what_is_written_reads_back(table, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(csv_bytes(table))
    texts = {"label": str, "=x": str}
    read = read_table(path, keep_default_na=False, na_values={"number": [""]}, dtype=texts)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)


def test_no_cell_begins_with_what_a_spreadsheet_runs(table):
    text = csv_bytes(table.set_index("label"), index=True).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == len(TEXTS)
    cells = [cell for row in rows for name, cell in row.items() if name != "number"]
    seen = [cell.lstrip(" \xa0\u200b\ufeff") for cell in [*cells, *rows[0]]]
    assert not [cell for cell in seen if cell[:1] in {*"=+-@＝＋－＠\t\r\n"}]
    assert [row["number"] for row in rows[:2]] == ["-0.5", ""]  # a number stays one


def test_what_is_harmless_stays_as_it_is():
    plain = pd.DataFrame({"class": ["a photo", "'tis", "x=1"], "n": [1, -2, 3]})
    assert csv_bytes(plain) == plain.to_csv(index=False).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "t.csv is empty"),
        (b"a,b\n1,2\n1,2,3\n", "t.csv, line 3: 3 cells, and the first line has 2"),
        (b'a,b\n1,"2\n3"\n1\n', "t.csv, line 4: 1 cells, and the first line has 2"),
        (b"a,b\n1,caf\xe9\n", "t.csv, line 2: the byte 0xe9 is not UTF-8"),
        (b'a,b\n1,"x\n', "t.csv, line 2: unexpected end of data"),
        (b"a,b,a\n1,2,3\n", "t.csv, line 1: the column 'a' stands there twice"),
    ],
)
def test_faults_of_a_users_table_name_file_and_line(tmp_path, content, said):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_csv(tmp_path / "t.csv")


def test_a_users_table_is_all_texts(tmp_path):
    (tmp_path / "t.tsv").write_bytes(b"\xef\xbb\xbfa\tb\n007\t\n\nNA\t'=1\n")
    table = read_csv(tmp_path / "t.tsv", "\t")
    assert table.to_dict("list") == {"a": ["007", "NA"], "b": ["", "'=1"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "t.csv is empty"),
        (b"a,b\n1,2\n1,2,3\n", "t.csv is no table that can be read: .*line 3, saw 3"),
        (b"a,b\n1,caf\xe9\n", "t.csv, line 2: the byte 0xe9 is not UTF-8"),
    ],
)
def test_faults_of_a_runs_table_name_the_file(tmp_path, content, said):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_table(tmp_path / "t.csv")
