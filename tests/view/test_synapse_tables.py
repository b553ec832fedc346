"""Tables of synapses as the viewer reads them."""

from __future__ import annotations

from petavox.view.synapses import read


def test_ids_of_a_csv_are_read_as_they_stand(tmp_path):
    high = 2**63 + 813
    path = tmp_path / "synapses.csv"
    path.write_text(f"z_nm,y_nm,x_nm,pre,post\n1,2,3,{high},{high + 1}\n4,5,6,7,\n")
    found = read(path)
    assert found.pre.tolist() == [high, 7]
    assert found.post.tolist() == [high + 1, 0]
