-- Galaxies of SDSS with a metallicity, by the cuts of Wu & Boada 2019 (MNRAS 484, 4683), in the SQL
-- of SkyServer. 'galfig fetch sdss' asks for it page by page, as a table within another query, so
-- that it has no TOP and no ORDER BY.
SELECT
  g.objID, s.specObjID, g.ra, g.dec,          -- position [deg]
  s.z, s.zErr,                                -- redshift, and its error
  g.petroMag_r, g.petroR50_r, g.petroR90_r,   -- [mag], and radii [arcsec]
  g.modelMag_u, g.modelMag_g, g.modelMag_r, g.modelMag_i, g.modelMag_z,
  -- 12 + log(O/H) of the MPA-JHU group: median, and other percentiles
  e.oh_p2p5, e.oh_p16, e.oh_p50, e.oh_p84, e.oh_p97p5,
  e.lgm_tot_p50, e.sfr_tot_p50,               -- log of the stellar mass, and of the rate of stars
  e.bptclass
FROM SpecObj AS s
JOIN Galaxy AS g ON g.objID = s.bestObjID
JOIN galSpecExtra AS e ON e.specObjID = s.specObjID
WHERE g.petroMag_r > 10 AND g.petroMag_r < 18
  AND g.modelMag_u - g.modelMag_r > 0
  AND e.oh_p50 > 0
  AND s.z > 0.02
  AND s.rChi2 < 2
  AND s.zErr < 0.01
