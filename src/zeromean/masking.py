"""Which values count: nodata values, masks, NaN."""
