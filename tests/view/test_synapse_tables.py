"""Tables of synapses as the viewer reads them."""

from __future__ import annotations

import pytest

from petavox.errors import BadInput
from petavox.view.synapses import read


def test_ids_of_a_csv_are_read_as_they_stand(tmp_path):
    high = 2**63 + 813
    path = tmp_path / "synapses.csv"
    path.write_text(f"z_nm,y_nm,x_nm,pre,post\n1,2,3,{high},{high + 1}\n4,5,6,7,\n")
    found = read(path)
    assert found.pre.tolist() == [high, 7]
    assert found.post.tolist() == [high + 1, 0]


@pytest.mark.parametrize(("place", "said"), [("nan", "is empty"), ("inf", "holds inf")])
def test_a_synapse_nowhere_is_refused_and_does_not_take_the_others_along(tmp_path, place, said):
    (tmp_path / "s.csv").write_text(f"z_nm,y_nm,x_nm,pre,post\n1,2,3,4,5\n1,{place},3,4,5\n")
    with pytest.raises(BadInput, match=rf"'y_nm' of .*s\.csv {said} in row 2"):
        read(tmp_path / "s.csv")
